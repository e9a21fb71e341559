import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { DistillationPreset } from "../../protocol/presets";
import type { CompressionMethod } from "../../protocol/methods";
import type { OptionValue } from "./methodOptions";

/** What the user asked for; decides which questions come. */
export type Purpose = "calibrate" | "compress" | "distil" | "profile" | "evaluate" | "compare" | "compareMethods";

export type StepId =
  | "method"
  | "keep"
  | "methods"
  | "ratios"
  | "recovery"
  | "teacher"
  | "student"
  | "preset"
  | "ownSequences"
  | "build"
  | "text"
  | "heldOut"
  | "amount"
  | "output"
  | "summary";

/** Answers to the question for held-out text that are no file. */
export const splitOff = ":split off the calibration text";
export const noVerdict = ":none";

/** Answers to the question for the student that are no folder. */
export const builtStudent = ":build";
export const compressedStudent = ":compress";

export interface Amount {
  sequences: number;
  sequenceLength: number;
}

/** What has been answered so far. */
export interface Answers {
  /** "none": the checkpoint is already compressed, its teacher is asked for instead. */
  method?: CompressionMethod | "none";
  /** Experts kept in each layer: a fraction up to 1, or a count above 1. */
  keep?: number;
  /** Options of a method by name, where they are not as they stand; of another method, they are nothing. */
  options?: { method: CompressionMethod; chosen: Record<string, OptionValue> };
  /** Method and ratio were taken as they are recommended, in one answer. */
  recommended?: boolean;
  /** The same of a comparison's grid. */
  methods?: CompressionMethod[];
  ratios?: number[];
  /** Whether each cell of the grid is calibrated and measured again. */
  recovery?: boolean;
  teacher?: string;
  /** Who learns: a checkpoint's folder, `builtStudent` or `compressedStudent`; and whether it has no experts. */
  student?: string;
  studentIsDense?: boolean;
  preset?: DistillationPreset;
  /** Share of the sequences that the student writes itself. */
  ownSequences?: number;
  /** Experts of each layer that a dense student is built of. */
  builtOf?: number;
  text?: string;
  /** Held-out text that students are measured on: a file, `splitOff` or `noVerdict`. */
  heldOut?: string;
  /** Folder for the result, which does not exist yet. */
  output?: string;
  amount?: Amount;
}

export interface WizardContext {
  purpose: Purpose;
  checkpoint: CheckpointSummary;
}

export interface WizardState {
  context: WizardContext;
  answers: Answers;
  step: StepId;
}

export type WizardEvent = { type: "answered"; answers: Answers } | { type: "back" };

/** The questions for this checkpoint, in order. A checkpoint that names its teacher is not asked for it. */
export function stepsOf({ purpose, checkpoint }: WizardContext, answers: Answers): StepId[] {
  const hasTeacher = checkpoint.provenance !== null;
  const last: StepId[] = ["text", "amount", "summary"];
  // Where something is written, and measured before and after.
  const written: StepId[] = ["text", "heldOut", "amount", "output", "summary"];
  switch (purpose) {
    case "profile":
      return last;
    case "evaluate":
      return last;
    case "compare":
      return ["teacher", ...last];
    case "compareMethods":
      return ["methods", "ratios", "recovery", "text", "heldOut", "amount", "summary"];
    case "distil": {
      const { student } = answers;
      const made: StepId[] = student === compressedStudent ? compressed(answers) : [];
      const build: StepId[] = student === builtStudent ? ["build"] : [];
      return ["student", ...build, ...made, "preset", "ownSequences", ...written];
    }
    case "compress":
      return [...compressed(answers), ...written];
    case "calibrate":
      return hasTeacher ? written : [...compressed(answers), ...written];
  }
}

function compressed({ method, recommended }: Answers): StepId[] {
  if (method === "none") return ["method", "teacher"];
  return recommended === true ? ["method"] : ["method", "keep"];
}

/** Starts at the first question, with nothing answered. */
export function startWizard(context: WizardContext): WizardState {
  return { context, answers: {}, step: stepsOf(context, {})[0]! };
}

/**
 * The state after an answer or a step back. Answers stay when going back, so that coming forward again proposes them.
 * Null: the user went back from the first question, so the wizard ends.
 */
export function nextWizardState(state: WizardState, event: WizardEvent): WizardState | null {
  const answers = event.type === "answered" ? { ...state.answers, ...event.answers } : state.answers;
  const steps = stepsOf(state.context, answers);
  const at = steps.indexOf(state.step);
  const step = steps[at + (event.type === "answered" ? 1 : -1)];
  return step ? { ...state, answers, step } : null;
}

/** Which question of how many, for the title of the quick pick; the summary counts as the last. */
export function positionOf(state: WizardState): { step: number; totalSteps: number } {
  const steps = stepsOf(state.context, state.answers);
  return { step: steps.indexOf(state.step) + 1, totalSteps: steps.length };
}
