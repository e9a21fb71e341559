import type { Recipe } from "../../protocol/recipe";
import type { StageId } from "../../protocol/run";
import { baseProcessBytes, planExecution, smallestBudget } from "../execution/memoryPlan";
import { countParameters } from "../model/parameters";
import { moeLayers } from "../compression/plan/moeLayers";
import type { ModelDescription } from "../model/description";
import { heldOutCount } from "../data/heldOutSplit";
import { matchesRouterLogits } from "../distillation/calibration";
import { stagesOf } from "./runFolder";
import type { TrainedPrediction } from "./trainedPrediction";
import type { MachineProbe } from "./work";

/** Bytes a second that copying tensors is assumed to reach: a common SSD, sequential. */
const copyBytesPerSecond = 400e6;
export interface StageEstimate {
  stage: StageId;
  seconds: number;
  peakMemoryBytes: number;
  assumption: string;
}

export interface EstimateInput {
  recipe: Recipe;
  teacher: ModelDescription;
  probe: MachineProbe | null;
  memoryBudgetBytes: number;
  /** Bytes that compression writes. */
  bytesAfter: number;
  /** What calibration trains; null or absent without one. */
  trained?: TrainedPrediction | null;
}

/** Optimiser updates of the recipe's calibration, where the text is long enough. */
export function totalUpdates({ data, calibrate }: Recipe): number {
  return calibrate ? Math.ceil(data.sequences / calibrate.batch) * calibrate.epochs : 0;
}

/** Time and memory of each stage that the recipe asks for, with the assumption behind it in words. */
export function estimateStages(input: EstimateInput): StageEstimate[] {
  const { recipe, probe, bytesAfter, teacher } = input;
  const wanted = stagesOf(recipe);
  const tokens = tokensOf(recipe);
  const updates = totalUpdates(recipe);
  const looks = recipe.calibrate ? Math.ceil(updates / recipe.calibrate.evaluateEvery) : 0;
  const models = 1 + (recipe.compress || recipe.student ? 1 : 0) + (recipe.calibrate ? 1 : 0);
  const time = timesOf(input);
  const known = probe?.assumption ?? "time unknown: not measured";
  const taught = isTaught(recipe) ? tokens.calibration : 0;
  const weights = moeLayers(teacher).reduce((sum, { moe }) => sum + moe.experts.length, 0);
  const estimates: Record<StageId, Omit<StageEstimate, "stage">> = {
    profile: {
      seconds: time.pass(tokens.calibration, "observed"),
      peakMemoryBytes: streamingMemory(input, tokens.calibration),
      assumption: `${tokens.calibration} tokens forward; ${known}`,
    },
    compress: {
      seconds: bytesAfter / copyBytesPerSecond + (recipe.compress?.method === "aimer" ? weights * 0.01 : 0),
      peakMemoryBytes: baseProcessBytes + 2 ** 26,
      assumption: `${bytesAfter} bytes copied at ${copyBytesPerSecond / 1e6} MB/s`,
    },
    calibrate: {
      seconds:
        time.targets(taught + tokens.heldOut) +
        time.updates(updates, tokens.calibration * (recipe.calibrate?.epochs ?? 0)) +
        time.beforeTraining(Math.min(tokens.calibration, lookedAtTokens)) +
        (looks + 1) * time.comparison(tokens.heldOut) +
        bytesAfter / copyBytesPerSecond,
      peakMemoryBytes:
        streamingMemory(input, (recipe.calibrate?.batch ?? 0) * recipe.data.sequenceLength, "backward") +
        fitBytes(recipe, teacher),
      assumption: `teacher once over ${taught + tokens.heldOut} tokens, ${updates} updates of ${input.trained?.parameters ?? 0} trained numbers, ${looks + 1} looks at ${tokens.heldOut} held-out tokens; ${known}`,
    },
    evaluate: {
      seconds: models * time.comparison(tokens.evaluation),
      peakMemoryBytes: streamingMemory(input, tokens.evaluation),
      assumption: `${models} checkpoints over ${tokens.evaluation} tokens; ${known}`,
    },
    report: { seconds: 1, peakMemoryBytes: baseProcessBytes, assumption: "reads the run folder" },
  };
  return (Object.keys(estimates) as StageId[])
    .filter((stage) => wanted.has(stage))
    .map((stage) => ({
      stage,
      ...estimates[stage],
      seconds: Number.isFinite(estimates[stage].seconds) ? estimates[stage].seconds : 0,
    }));
}

/** Seconds of passes over tokens, compiling included where sessions do not stay; NaN where nothing was measured. */
function timesOf({ probe, teacher, recipe, memoryBudgetBytes, trained }: EstimateInput) {
  const { sequenceLength } = recipe.data;
  const { hiddenSize } = teacher;
  const backward = planExecution(teacher, sequenceLength, memoryBudgetBytes, "backward");
  // All layers' sessions stay between passes, or each pass compiles them again.
  const stay = compiledBytes(teacher, "backward") <= backward.sessionBytes;
  const compile = probe?.compileForwardSeconds ?? NaN;
  const pass = (tokens: number, kind: "forward" | "observed") =>
    tokens === 0 ? 0 : compile + tokens / (probe?.[`${kind}TokensPerSecond`] ?? NaN);
  return {
    pass,
    comparison: (tokens: number) => pass(tokens, "forward") + tokens / (probe?.headTokensPerSecond ?? NaN),
    /** The teacher's pass runs in groups whose hidden states fit. */
    targets: (tokens: number) => {
      const plan = planExecution(teacher, sequenceLength, memoryBudgetBytes, "forward");
      const groups = Math.max(1, Math.ceil((2 * tokens * hiddenSize * 4) / Math.max(1, plan.hiddenStateBytes)));
      return pass(tokens, "forward") + (stay ? 0 : (groups - 1) * compile);
    },
    /** Passes over the first sequences before the first update: experts counted, routers fitted. */
    beforeTraining: (tokens: number) =>
      (recipe.calibrate?.scope === "router+top-experts" ? pass(tokens, "forward") : 0) +
      (recipe.calibrate?.initialise === "router-logits" ? pass(tokens, "forward") : 0),
    updates: (count: number, tokens: number) =>
      count === 0
        ? 0
        : (stay ? 1 : count) * (probe?.compileUpdateSeconds ?? NaN) +
          (tokens / (probe?.updateTokensPerSecond ?? NaN)) * weightGradientFactor(teacher, trained) +
          count * updateSeconds(trained) +
          tokens / (probe?.headUpdateTokensPerSecond ?? NaN),
  };
}

/** Tokens that a calibration looks at before its first update, at most (distillation/firstTokens.ts). */
const lookedAtTokens = 65_536;

/**
 * A backward pass makes the forward pass again and the gradients of activations, two of three parts of an update; those of
 * all weights would be the fourth.
 */
function weightGradientFactor(teacher: ModelDescription, trained: TrainedPrediction | null | undefined): number {
  if (!trained?.sizes) return 1;
  return 1 + Math.min(1, trained.parameters / countParameters(teacher).total) / 3;
}

/** Numbers a second that clipping and AdamW get through in plain code (measured: 30 to 60 million). */
const numbersPerSecond = 40e6;

/** Optimiser and writing of the state, which is as large as three to four copies of what trains. */
function updateSeconds(trained: TrainedPrediction | null | undefined): number {
  if (!trained?.sizes) return 0;
  return trained.parameters / numbersPerSecond + Math.min(256e6, trained.parameters * 16) / copyBytesPerSecond;
}

/** Gram matrix, its factor, that one's inverse and what solving makes, in float64, where routers are fitted first. */
function fitBytes({ calibrate }: Recipe, { hiddenSize }: ModelDescription): number {
  return calibrate?.initialise === "router-logits" ? 6 * 8 * hiddenSize ** 2 : 0;
}

function isTaught({ calibrate }: Recipe): boolean {
  return calibrate !== undefined && (calibrate.loss !== "lm" || matchesRouterLogits(calibrate));
}

/** The smallest budget that the recipe's widest stage fits in, one sequence at a time. */
export function smallestMemory(
  recipe: Recipe,
  description: ModelDescription,
  trained: TrainedPrediction | null = null,
): number {
  const direction = recipe.calibrate ? "backward" : "forward";
  return (
    smallestBudget(description, recipe.data.sequenceLength, direction, trained?.sizes) + fitBytes(recipe, description)
  );
}

/**
 * Bytes on disk that a calibration needs beside its result: teacher targets (the final hidden state of every training and
 * held-out token and, where they are matched, the router logits of every training token, in f32), and the training state
 * of wider scopes, old and new while it is replaced.
 */
export function calibrationBytes(
  recipe: Recipe,
  description: ModelDescription,
  trained: TrainedPrediction | null = null,
): number {
  if (!recipe.calibrate) return 0;
  const tokens = tokensOf(recipe);
  const hidden = ((isTaught(recipe) ? tokens.calibration : 0) + tokens.heldOut) * description.hiddenSize;
  const logits = matchesRouterLogits(recipe.calibrate) ? tokens.calibration * (trained?.routerLogits ?? 0) : 0;
  const state = trained?.sizes ? 2 * 4 * trained.parameters : 0;
  return 4 * (hidden + logits + state);
}

function tokensOf({ data, calibrate }: Recipe): { calibration: number; heldOut: number; evaluation: number } {
  return {
    calibration: data.sequences * data.sequenceLength,
    heldOut: calibrate ? heldOutCount(data.sequences, calibrate.heldOut) * data.sequenceLength : 0,
    evaluation: data.evaluationSequences * data.sequenceLength,
  };
}

/**
 * The executor's own plan for this budget: its overhead and working set, hidden states of all tokens as far as they
 * stay in memory, and compiled sessions, which may keep f32 copies of the weights.
 */
function streamingMemory(
  { teacher, memoryBudgetBytes, recipe, trained }: EstimateInput,
  tokens: number,
  direction: "forward" | "backward" = "forward",
): number {
  const sizes = direction === "backward" ? trained?.sizes : undefined;
  const plan = planExecution(teacher, recipe.data.sequenceLength, memoryBudgetBytes, direction, sizes);
  const stores = direction === "backward" ? 2 * teacher.layers.length + 1 : 2;
  const hidden = Math.min(stores * tokens * teacher.hiddenSize * 4, plan.hiddenStateBytes);
  const copies = plan.keepFloat32Weights ? 2 * 4 * countParameters(teacher).total : 0;
  const sessions = Math.min(copies + compiledBytes(teacher, direction), plan.sessionBytes);
  return plan.overheadBytes + plan.workingSetBytes + hidden + sessions;
}

/** Compiled graphs of all layers, at 6 kB a node; nodes a layer as counted on graphs of 8 to 128 experts. */
function compiledBytes({ layers }: ModelDescription, direction: "forward" | "backward"): number {
  const nodes = layers.reduce((sum, { feedForward }) => {
    const experts = feedForward.kind === "moe" ? feedForward.numExperts : 1;
    return sum + (direction === "backward" ? 430 + 34 * experts : 130 + 19 * experts);
  }, 0);
  return nodes * 6000;
}
