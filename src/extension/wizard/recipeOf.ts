import { calibrateOptions } from "../../protocol/calibrateOptions";
import { compressOptions, recipeSchema, type ProviderChoice, type Recipe } from "../../protocol/recipe";
import { distillationPresets } from "../../protocol/presets";
import {
  builtStudent,
  compressedStudent,
  noVerdict,
  splitOff,
  type Amount,
  type Answers,
  type Purpose,
  type WizardContext,
} from "./questions";

/** What the recipe takes from the settings and from where things lie. */
export interface RecipeSurroundings {
  /** Absolute path of a folder that does not exist yet. */
  output: string;
  name: string;
  /** Tokens of the held-out text, where it is a file. */
  heldOutTokens: number;
  memory: string | null;
  threads: number | null;
  provider: ProviderChoice;
}

/** Above this many parameters the published learning rate is proposed; it was chosen for models of 30 billion. */
const smallModelParameters = 100e6;

/** REFERENCE of the sample models: 1e-3 recovers three times what 5e-5 does on models this small. */
const smallModelLearningRate = 1e-3;

/**
 * The recipe that answered questions stand for. Everything the extension starts goes through one.
 * @throws ZodError for answers that no recipe can hold, which the wizard's own checks prevent
 */
export function recipeOf({ purpose, checkpoint }: WizardContext, answers: Answers, around: RecipeSurroundings): Recipe {
  const distilling = purpose === "distil";
  const calibrating = purpose === "calibrate" || distilling;
  const compressing = distilling
    ? answers.student === compressedStudent
    : (calibrating || purpose === "compress") && answers.keep !== undefined && answers.method !== "none";
  const teacher = answers.teacher ?? checkpoint.provenance?.teacherPath;
  const isStudent = !distilling && !compressing && teacher !== undefined && purpose !== "profile";
  const { amount } = answers;
  if (answers.text === undefined || amount === undefined)
    throw new RangeError("the wizard ended before text and amount were chosen");

  return recipeSchema.parse({
    schemaVersion: 1,
    name: around.name,
    teacher: isStudent ? teacher : checkpoint.path,
    ...(isStudent ? { student: checkpoint.path } : distilling && !compressing ? { student: learnerOf(answers) } : {}),
    data: {
      calibration: answers.text,
      ...amount,
      ...evaluationOf(purpose, answers, amount, around.heldOutTokens),
    },
    ...(compressing ? { compress: compressionOf(answers) } : {}),
    ...(calibrating
      ? {
          calibrate: calibrateOptions.parse({
            ...learningRate(checkpoint.parametersTotal),
            ...(distilling ? taughtBy(answers) : {}),
          }),
        }
      : {}),
    output: around.output,
    ...(around.memory === null ? {} : { memory: around.memory }),
    ...(around.threads === null ? {} : { threads: around.threads }),
    provider: around.provider,
  });
}

function compressionOf({ method, keep, options, recommended }: Answers) {
  const own = options?.method === method && recommended !== true ? { options: options?.chosen } : {};
  return compressOptions.parse({ method, keep, ...own });
}

/** The student that learns: a folder, or how it is built. */
function learnerOf({ student, builtOf }: Answers) {
  if (student === undefined) throw new RangeError("the wizard ended before a student was chosen");
  if (student !== builtStudent) return student;
  return { build: builtOf === undefined ? {} : { experts: builtOf } };
}

/** A preset's options, expanded, with the student's own sequences as they were answered; a dense student trains whole. */
function taughtBy({ preset = "kd", ownSequences = 0, studentIsDense = false }: Answers) {
  const { onPolicy, ...options } = distillationPresets[preset];
  return {
    ...options,
    ...(studentIsDense ? { scope: "all" as const } : {}),
    ...(ownSequences > 0 ? { onPolicy: { ...onPolicy, share: ownSequences } } : {}),
  };
}

/** The published rate, unless the model is so small that it would hardly move. */
export function learningRate(parameters: number): { learningRate?: number } {
  return parameters < smallModelParameters ? { learningRate: smallModelLearningRate } : {};
}

/** What the before/after comparison reads: 96 sequences as published, or what the held-out text gives. */
function evaluationOf(purpose: Purpose, { text, heldOut }: Answers, amount: Amount, heldOutTokens: number) {
  switch (purpose) {
    case "profile":
    case "compareMethods":
      return {};
    case "evaluate":
    case "compare":
      // Nothing is trained on this text, so it is itself what is evaluated.
      return { evaluation: text, evaluationSequences: amount.sequences };
    case "calibrate":
    case "distil":
    case "compress": {
      if (heldOut === undefined || heldOut === noVerdict) return {};
      if (heldOut === splitOff) return splitOf(amount.sequences);
      return { evaluation: heldOut, evaluationSequences: evaluationSequences(heldOutTokens, amount) };
    }
  }
}

/**
 * Of all sequences that the text has, a tenth to measure on: at least the 20 that a verdict needs, at most the published 96,
 * and never more than a third. What is held out while training, and as much again to find a document's border, is left room.
 */
function splitOf(all: number) {
  const evaluationSequences = Math.max(1, Math.min(Math.floor(all / 3), 96, Math.max(20, Math.floor(all / 10))));
  const { heldOut, maxHeldOut } = calibrateOptions.parse({});
  const rest = all - evaluationSequences - 1;
  const sequences = Math.max(1, Math.floor(rest / (1 + 2 * heldOut)), rest - 2 * maxHeldOut);
  return { splitEvaluation: true as const, sequences, evaluationSequences };
}

/** 96 sequences as published, or as many as a text of so many tokens gives. */
export function evaluationSequences(tokens: number, { sequenceLength }: Amount): number {
  return Math.max(1, Math.min(96, Math.floor(tokens / sequenceLength)));
}
