import { compiledBytes } from "../../execution/compiledBytes";
import { paradigmOf, type Recipe } from "../../../protocol/recipe";
import type { StageId } from "../../../protocol/run";
import { baseProcessBytes, planExecution, smallestBudget, tapedBytesPerToken } from "../../execution/memoryPlan";
import { workingSetBytes } from "../../execution/workingSet";
import { countParameters } from "../../model/parameters";
import { garbageAllowance } from "../../runtime/garbage";
import { profileShardTokens } from "../../execution/profile";
import { lighterOptions, methodCost, secondsOf } from "../../compression/cost/methodCost";
import { weightCosineCost } from "../../compression/cost/weightCosineCost";
import type { ModelDescription } from "../../model/description";
import { heldOutCount } from "../../data/heldOutSplit";
import { matchesRouterLogits } from "../../distillation/calibration";
import { stagesOf } from "../folder/runFolder";
import { stageTimes, type EstimateInput, type StageTimes } from "./stageTimes";
import type { TrainedPrediction } from "./trainedPrediction";

export interface StageEstimate {
  stage: StageId;
  seconds: number;
  /** Of these, what is the teacher's alone: cells of a comparison do it once for all. */
  teacherSeconds: number;
  peakMemoryBytes: number;
  assumption: string;
}

/** Optimiser updates of the recipe's calibration, where the text is long enough. */
export function totalUpdates({ data, calibrate }: Recipe): number {
  return calibrate ? Math.ceil(data.sequences / calibrate.batch) * calibrate.epochs : 0;
}

/** Time and memory of each stage that the recipe asks for, with the assumption behind it in words. */
export function estimateStages(input: EstimateInput): StageEstimate[] {
  // Allocators keep most of what a stage gave back, so that a small stage after a large one holds as much (measured: 95 %).
  let largest = 0;
  return estimateAlone(input).map((estimate) => {
    largest = Math.max(largest, estimate.peakMemoryBytes);
    return { ...estimate, peakMemoryBytes: largest };
  });
}

/** A stage whose predicted peak is beyond the budget, with the budget that would do and the option that needs less. */
export interface BeyondBudget {
  stage: StageId;
  peakMemoryBytes: number;
  fittingBudgetBytes: number;
  /** An option of the compression method with which the stage fits; null where none does. */
  option: string | null;
}

/** The first of the stages in `open` that would need more memory than it may. */
export function stageBeyondBudget(input: EstimateInput, open: ReadonlySet<StageId>): BeyondBudget | null {
  const peakOf = (change: Partial<EstimateInput>, stage: StageId) =>
    estimateAlone({ ...input, ...change }).find((estimate) => estimate.stage === stage)!.peakMemoryBytes;
  const { memoryBudgetBytes, recipe } = input;
  const beyond = estimateAlone(input).find(
    ({ stage, peakMemoryBytes }) => open.has(stage) && peakMemoryBytes > memoryBudgetBytes,
  );
  if (!beyond) return null;
  const { stage, peakMemoryBytes } = beyond;
  // A larger budget is used, too: a few rounds settle it.
  let fitting = peakMemoryBytes;
  for (let round = 0; round < 30 && peakOf({ memoryBudgetBytes: fitting }, stage) > fitting; round++)
    fitting = Math.ceil(1.02 * peakOf({ memoryBudgetBytes: fitting }, stage));
  const { compress } = recipe;
  const lighter = stage === "compress" && compress ? (lighterOptions[compress.method] ?? []) : [];
  const option = lighter.find((change) => {
    const changed = { ...recipe, compress: { ...compress!, options: { ...compress!.options, ...change } } };
    return peakOf({ recipe: changed }, stage) <= memoryBudgetBytes;
  });
  const named = option ? Object.entries(option).map(([name, value]) => `${name}=${value}`) : null;
  return { stage, peakMemoryBytes, fittingBudgetBytes: fitting, option: named && named.join(" ") };
}

/** Each stage as if it were alone in its process. */
function estimateAlone(input: EstimateInput): StageEstimate[] {
  const { recipe, probe, bytesAfter, teacher } = input;
  const wanted = stagesOf(recipe);
  const tokens = tokensOf(recipe);
  const updates = totalUpdates(recipe);
  const looks = recipe.calibrate ? Math.ceil(updates / recipe.calibrate.evaluateEvery) : 0;
  const models = 1 + (recipe.compress || recipe.student ? 1 : 0) + (recipe.calibrate ? 1 : 0);
  const time = stageTimes(input);
  const known = `${probe?.assumption ?? "time unknown: not measured"}${time.coldReads}`;
  const taught = isTaught(recipe) ? tokens.calibration : 0;
  const compared = probe?.compute ? secondsOf(weightCosineCost(teacher), probe.compute) : 0;
  const alone: Partial<Record<StageId, number>> = {
    profile: time.pass(tokens.calibration, "observed") + compared,
    calibrate: time.targets(taught + tokens.heldOut),
    evaluate: time.evaluation(tokens.evaluation, "teacher"),
  };
  const estimates: Record<StageId, Omit<StageEstimate, "stage" | "teacherSeconds">> = {
    profile: {
      seconds: alone.profile!,
      peakMemoryBytes: streamingMemory(input, { tokens: tokens.calibration, allTokens: tokens.calibration }),
      assumption: `${tokens.calibration} tokens forward; ${known}`,
    },
    compress: compressEstimate(input, time),
    calibrate: {
      seconds:
        alone.calibrate! +
        time.updates(updates, tokens.calibration * (recipe.calibrate?.epochs ?? 0)) +
        time.beforeTraining(Math.min(tokens.calibration, lookedAtTokens)) +
        (looks + 1) * time.evaluation(tokens.heldOut, "student") +
        time.copy(bytesAfter),
      peakMemoryBytes:
        streamingMemory(
          input,
          {
            tokens: (recipe.calibrate?.batch ?? 0) * recipe.data.sequenceLength,
            allTokens: taught + tokens.heldOut + 2 * tokens.calibration * (recipe.calibrate?.epochs ?? 0),
          },
          "backward",
        ) + fitBytes(recipe, teacher),
      assumption: `teacher once over ${taught + tokens.heldOut} tokens, ${updates} updates of ${input.trained?.parameters ?? 0} trained numbers, ${looks + 1} looks at ${tokens.heldOut} held-out tokens; ${known}`,
    },
    evaluate: {
      seconds: alone.evaluate! + (models - 1) * time.evaluation(tokens.evaluation, "student"),
      peakMemoryBytes: streamingMemory(input, { tokens: tokens.evaluation, allTokens: models * tokens.evaluation }),
      assumption: `${models} checkpoints over ${tokens.evaluation} tokens; ${known}`,
    },
    report: { seconds: 1, peakMemoryBytes: baseProcessBytes, assumption: "reads the run folder" },
  };
  const finiteOrZero = (value: number) => (Number.isFinite(value) ? value : 0);
  return (Object.keys(estimates) as StageId[])
    .filter((stage) => wanted.has(stage))
    .map((stage) => {
      const { seconds, ...rest } = estimates[stage];
      return {
        stage,
        seconds: finiteOrZero(seconds),
        teacherSeconds: finiteOrZero(alone[stage] ?? 0),
        ...rest,
      };
    });
}

/**
 * A method's own work at the rates of products and plain code measured here, its passes of text, and the bytes it writes:
 * merging and editing stage each layer before. A plan from a file is taken for copying.
 */
function compressEstimate(input: EstimateInput, time: StageTimes): Omit<StageEstimate, "stage" | "teacherSeconds"> {
  const { recipe, probe, bytesAfter, teacher } = input;
  const { compress } = recipe;
  const copying = {
    seconds: time.copy(bytesAfter),
    peakMemoryBytes: baseProcessBytes + 2 ** 26,
    assumption: `${bytesAfter} bytes copied at ${(time.writeBytesPerSecond / 1e6).toFixed(0)} MB/s`,
  };
  if (!compress || compress.plan !== undefined) return copying;
  const cost = methodCost(compress, teacher, recipe.data);
  const own = probe?.compute ? secondsOf(cost, probe.compute) : 0;
  const copies = paradigmOf(compress.method) === "pruning" ? 1 : 2;
  if (own === 0 && cost.passTokens === 0) return copying;
  const streaming =
    cost.passTokens > 0
      ? streamingMemory(input, { tokens: cost.passTokens, allTokens: cost.passTokens })
      : copying.peakMemoryBytes;
  const rate = (flops: number | undefined) => `${((flops ?? 0) / 1e9).toFixed(1)} G/s`;
  const subspace =
    cost.subspace === 0
      ? ""
      : `${(cost.subspace / 1e12).toFixed(1)} T in subspace iterations (${rate(probe?.compute?.subspace)} measured), `;
  return {
    seconds: copies * copying.seconds + own + (cost.passTokens > 0 ? time.pass(cost.passTokens, "forward") : 0),
    peakMemoryBytes: streaming + cost.workingBytes,
    assumption:
      `${compress.method}: ${((cost.float32 + cost.float64) / 1e12).toFixed(1)} T operations in products (float32 ${rate(probe?.compute?.float32)}, ` +
      `float64 ${rate(probe?.compute?.float64)} measured), ${subspace}${(cost.plain / 1e9).toFixed(1)} G in plain code (${rate(probe?.compute?.plain)} measured), ` +
      `${cost.passTokens} tokens forward; ${copies === 2 ? "staged, then " : ""}${copying.assumption}`,
  };
}

/** Tokens that a calibration looks at before its first update, at most (distillation/firstTokens.ts). */
const lookedAtTokens = 65_536;

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

/**
 * Bytes on disk for what does not fit the budget: hidden states of a pass, what an update keeps for its backward pass, the
 * teacher's states and routing of an evaluation; and the states to go on from, old and new: of a profile, and of both
 * passes of an evaluation, the teacher's with its routing.
 */
export function spillBytes(recipe: Recipe, description: ModelDescription, memoryBudgetBytes: number): number {
  const { sequenceLength } = recipe.data;
  const tokens = tokensOf(recipe);
  const wanted = stagesOf(recipe);
  const rows = (count: number) => count * description.hiddenSize * 4;
  const beyond = (bytes: number, allowed: number) => (bytes > allowed ? bytes : 0);
  const forward = planExecution(description, sequenceLength, memoryBudgetBytes, "forward").hiddenStateBytes;
  const backward = planExecution(description, sequenceLength, memoryBudgetBytes, "backward").hiddenStateBytes;
  const shard = rows(Math.min(tokens.calibration, profileShardTokens));
  const batch = (recipe.calibrate?.batch ?? 0) * sequenceLength;
  const update = batch * tapedBytesPerToken(description) + rows(batch);
  const logits = description.layers.reduce((sum, { feedForward }) => sum + numExpertsOf(feedForward), 0);
  const teacher = rows(tokens.evaluation) + 4 * tokens.evaluation * logits;
  return Math.max(
    wanted.has("profile") ? beyond(shard, forward) + 2 * shard : 0,
    wanted.has("calibrate") ? beyond(update, backward) + beyond(rows(tokens.heldOut), backward) : 0,
    wanted.has("evaluate")
      ? beyond(teacher, forward / 4) + beyond(rows(tokens.evaluation), forward) + teacher + 3 * rows(tokens.evaluation)
      : 0,
  );
}

function tokensOf({ data, calibrate }: Recipe): { calibration: number; heldOut: number; evaluation: number } {
  return {
    calibration: data.sequences * data.sequenceLength,
    heldOut: calibrate ? heldOutCount(data.sequences, calibrate.heldOut) * data.sequenceLength : 0,
    evaluation: data.evaluationSequences * data.sequenceLength,
  };
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
function streamingMemory(
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
  const copies = plan.keepFloat32Weights ? 2 * 4 * countParameters(teacher).total : 0;
  const sessions = Math.min(copies + compiledBytes(teacher, direction), plan.sessionBytes);
  const sequences = Math.max(1, Math.ceil(tokens / sequenceLength));
  const portions = {
    attentionSequences: Math.min(plan.attentionSequences, sequences),
    chunkSequences: Math.min(plan.chunkSequences, sequences),
    headPositions: Math.min(plan.headPositions, tokens),
  };
  const workingSet = workingSetBytes({ description: teacher, sequenceLength, direction, trained: sizes }, portions);
  const allowance = garbageAllowance(memoryBudgetBytes);
  const garbage = Math.min(allowance, allTokens * resultBytesPerToken(teacher));
  return plan.overheadBytes - allowance + garbage + workingSet + hidden + sessions;
}

/** Arrays that runs of all layers give for a token: norms, states, router logits, observations. */
function resultBytesPerToken({ layers, hiddenSize }: ModelDescription): number {
  return layers.reduce((sum, { feedForward }) => sum + 4 * (8 * hiddenSize + numExpertsOf(feedForward)), 0);
}

function numExpertsOf(feedForward: ModelDescription["layers"][number]["feedForward"]): number {
  return feedForward.kind === "moe" ? feedForward.numExperts : 0;
}
