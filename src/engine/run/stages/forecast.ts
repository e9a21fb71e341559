import { planExecution, portionsOf, sessionsMemory, tapedBytesPerToken } from "../../execution/memoryPlan";
import { workingSetBytes } from "../../execution/workingSet";
import { leavesOf } from "../../execution/leaves";
import { previewBytes } from "../../model/previewProducts";
import { heldOutCount } from "../../data/heldOutSplit";
import type { ModelDescription } from "../../model/description";
import { garbageAllowance, minorsPerFull } from "../../runtime/garbage";
import { threadsThatFit } from "../../execution/sideBySide/threadsThatFit";
import { worthCompiling } from "../../execution/sideBySide/layersSideBySide";
import type { Recipe } from "../../../protocol/recipe";
import type { EstimateInput, StageTimes } from "../preflight/stageTimes";

/** What a stage is told to answer from: recipe, shapes, budget, and the times of what it consists of. */
export interface ForecastInput extends EstimateInput {
  time: StageTimes;
  /** What was measured, or that nothing was, and whether weights stay in the page cache. */
  measured: string;
}

/** A stage's own answer, as if it were alone in its process. Seconds are NaN where nothing was measured. */
export interface StageForecast {
  seconds: number;
  /** Of these, what is the teacher's alone: cells of a comparison do it once for all. */
  teacherSeconds: number;
  peakMemoryBytes: number;
  assumption: string;
  /** What of it workers can share; the coordinator does the rest. */
  spread?: SpreadShare[];
}

/** Work in equal parts, each of which one worker does at a time. */
export interface SpreadShare {
  /** Of one machine like this alone. */
  seconds: number;
  parts: number;
  /** Why there are no more, for people. */
  limit: string;
}

export type ScratchInput = Pick<EstimateInput, "recipe" | "teacher" | "student" | "memoryBudgetBytes" | "trained">;

/** Bytes on disk that a stage needs beside its result. */
export interface StageScratch {
  /** Whatever the budget, until the run is done. */
  kept: number;
  /** While it works: what does not fit the budget, and the states to go on from. */
  spilled: number;
}

export const noScratch: StageScratch = { kept: 0, spilled: 0 };

/** Tokens of each text that a recipe's stages read, where the texts are long enough. */
export function recipeTokens({ data, calibrate }: Recipe): {
  calibration: number;
  heldOut: number;
  evaluation: number;
} {
  return {
    calibration: data.sequences * data.sequenceLength,
    heldOut: calibrate
      ? heldOutCount(data.sequences, calibrate.heldOut, calibrate.maxHeldOut) * data.sequenceLength
      : 0,
    evaluation: data.evaluationSequences * data.sequenceLength,
  };
}

/** f32 rows of hidden states. */
export function stateBytesOf({ hiddenSize }: ModelDescription, tokens: number): number {
  return tokens * hiddenSize * 4;
}

/** Whoever trains: a dense student, or one that is taken to be as the teacher. */
export function learnerOf({ student, teacher }: Pick<EstimateInput, "student" | "teacher">): ModelDescription {
  return student ?? teacher;
}

/** Bytes that go to disk because they are beyond what may stay. */
export function beyond(bytes: number, allowed: number): number {
  return bytes > allowed ? bytes : 0;
}

interface Amounts {
  /** Tokens that are in memory together, as far as the plan allows. */
  tokens: number;
  /** Tokens of all passes. */
  allTokens: number;
}

/**
 * The executor's own plan for this budget: its overhead and working set, hidden states of all tokens as far as they
 * stay in memory, and compiled sessions, which may keep f32 copies of the weights. Little work fills neither the working
 * set nor what may lie about as garbage.
 */
export function streamingMemory(
  { teacher, memoryBudgetBytes, recipe, trained }: EstimateInput,
  { tokens, allTokens }: Amounts,
  direction: "forward" | "backward" = "forward",
): number {
  const { sequenceLength } = recipe.data;
  const sizes = direction === "backward" ? trained?.sizes : undefined;
  const plan = planExecution(teacher, sequenceLength, memoryBudgetBytes, direction, sizes);
  // Of what does not fit, nothing stays; an update also has the teacher's rows of its batch.
  const row = teacher.hiddenSize * 4;
  const stored = tokens * (direction === "backward" ? tapedBytesPerToken(teacher) + row : row);
  const hidden = (stored <= plan.hiddenStateBytes ? stored : 0) + (direction === "backward" ? tokens * row : 0);
  const sessions = sessionsMemory(plan, teacher, direction, sequenceLength);
  const portions = portionsOf(plan, Math.max(1, Math.ceil(tokens / sequenceLength)), sequenceLength);
  const workingSet = workingSetBytes({ description: teacher, sequenceLength, direction, trained: sizes }, portions);
  const allowance = garbageAllowance(memoryBudgetBytes);
  // The plan has room for all of it; what was measured is what lies about between collections of young objects.
  const garbage = Math.min(allowance / minorsPerFull, allTokens * resultBytesPerToken(teacher));
  return plan.overheadBytes - allowance + garbage + workingSet + hidden + sessions + plan.codeBytes;
}

/** What threads hold that go through layers side by side, in passes over so many tokens. */
export function layerThreadsMemory(input: EstimateInput, tokens: number): number {
  const { teacher, recipe } = input;
  if (tokens < worthCompiling || previewBytes(teacher) > 0) return 0;
  const { sequences } = leavesOf(recipe.data.sequenceLength);
  return threadsMemory(input, Math.min(sequences, Math.ceil(tokens / recipe.data.sequenceLength)), "forward");
}

/** What threads hold that work on parts of so many sequences side by side, where there are some. */
export function threadsMemory(
  { teacher, memoryBudgetBytes, partThreads: threads = 0, recipe }: EstimateInput,
  sequences: number,
  direction: "forward" | "backward",
): number {
  const work = { description: teacher, sequenceLength: recipe.data.sequenceLength, direction, sequences };
  return threadsThatFit(work, { threads, memoryBudgetBytes }).bytes;
}

/** Arrays that runs of all layers give for a token: norms, states, router logits, observations. */
function resultBytesPerToken({ layers, hiddenSize }: ModelDescription): number {
  return layers.reduce((sum, { feedForward }) => sum + 4 * (8 * hiddenSize + numExpertsOf(feedForward)), 0);
}

export function numExpertsOf(feedForward: ModelDescription["layers"][number]["feedForward"]): number {
  return feedForward.kind === "moe" ? feedForward.numExperts : 0;
}
