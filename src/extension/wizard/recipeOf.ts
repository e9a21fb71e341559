import {
  calibrateOptions,
  compressOptions,
  recipeSchema,
  type ExecutionProvider,
  type Recipe,
} from "../../protocol/recipe";
import { estimateTokens } from "./choices";
import type { Amount, Answers, Purpose, WizardContext } from "./questions";

/** What the recipe takes from the settings and from where things lie. */
export interface RecipeSurroundings {
  /** Absolute path of a folder that does not exist yet. */
  output: string;
  name: string;
  /** Held-out text found beside the calibration text. */
  evaluationText: { path: string; bytes: number } | null;
  memory: string | null;
  threads: number | null;
  provider: ExecutionProvider;
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
  const calibrating = purpose === "calibrate";
  const compressing =
    (calibrating || purpose === "compress") && answers.keep !== undefined && answers.method !== "none";
  const teacher = answers.teacher ?? checkpoint.provenance?.teacherPath;
  const isStudent = !compressing && teacher !== undefined && purpose !== "profile";
  const { amount } = answers;
  if (answers.text === undefined || amount === undefined)
    throw new RangeError("the wizard ended before text and amount were chosen");

  return recipeSchema.parse({
    schemaVersion: 1,
    name: around.name,
    teacher: isStudent ? teacher : checkpoint.path,
    ...(isStudent ? { student: checkpoint.path } : {}),
    data: {
      calibration: answers.text,
      ...amount,
      ...evaluationOf(purpose, answers.text, amount, around.evaluationText),
    },
    ...(compressing ? { compress: compressOptions.parse({ method: answers.method, keep: answers.keep }) } : {}),
    ...(calibrating ? { calibrate: calibrateOptions.parse(learningRate(checkpoint.parametersTotal)) } : {}),
    output: around.output,
    ...(around.memory === null ? {} : { memory: around.memory }),
    ...(around.threads === null ? {} : { threads: around.threads }),
    provider: around.provider,
  });
}

/** The published rate, unless the model is so small that it would hardly move. */
export function learningRate(parameters: number): { learningRate?: number } {
  return parameters < smallModelParameters ? { learningRate: smallModelLearningRate } : {};
}

/** What the before/after comparison reads: 96 sequences as published, or what the held-out text surely gives. */
function evaluationOf(purpose: Purpose, text: string, amount: Amount, heldOut: RecipeSurroundings["evaluationText"]) {
  switch (purpose) {
    case "profile":
    case "compareMethods":
      return {};
    case "evaluate":
    case "compare":
      // Nothing is trained on this text, so it is itself what is evaluated.
      return { evaluation: text, evaluationSequences: amount.sequences };
    case "calibrate":
    case "compress": {
      if (!heldOut) return {};
      return { evaluation: heldOut.path, evaluationSequences: evaluationSequences(heldOut.bytes, amount) };
    }
  }
}

/** 96 sequences as published, or as many as the text surely gives. */
export function evaluationSequences(bytes: number, { sequenceLength }: Amount): number {
  return Math.max(1, Math.min(96, Math.floor(estimateTokens(bytes) / sequenceLength)));
}
