import { planExecution } from "../../execution/memoryPlan";
import type { PassCost } from "../../execution/measure";
import { fallbackBufferBytesPerSecond, fallbackDiskBytesPerSecond } from "../../execution/measureDisk";
import { blockTokens } from "../../execution/leaves";
import { compiledBytes } from "../../execution/compiledBytes";
import { countParameters, flopsPerToken } from "../../model/parameters";
import type { ModelDescription } from "../../model/description";
import type { Recipe } from "../../../protocol/recipe";
import type { TrainedPrediction } from "../../distillation/trainedPrediction";
import type { MachineProbe } from "../work";

export interface EstimateInput {
  recipe: Recipe;
  teacher: ModelDescription;
  probe: MachineProbe | null;
  memoryBudgetBytes: number;
  /** Threads that may work on parts side by side, with executors of their own; absent: none. */
  partThreads?: number;
  /** Bytes of the teacher, and those that compression writes. */
  bytesBefore: number;
  bytesAfter: number;
  /** Bytes that the page cache may keep of checkpoints beside the run. */
  cacheBytes: number;
  /** What is profiled and compressed, where it is not the teacher. */
  source?: { description: ModelDescription; bytes: number };
  /** The student, where it is dense; one with experts is taken to be as the teacher. */
  student?: ModelDescription;
  /** What calibration trains; null or absent without one. */
  trained?: TrainedPrediction | null;
}

/** The same for the stages that work on the source: as if that were the teacher, with what was measured on the teacher in proportion. */
export function onSource(input: EstimateInput): EstimateInput {
  const { source, probe, bytesBefore, ...rest } = input;
  if (source === undefined) return input;
  const share = bytesBefore > 0 ? Math.min(1, source.bytes / bytesBefore) : 1;
  const less = (cost: PassCost): PassCost => ({ ...cost, secondsPerChunk: share * cost.secondsPerChunk });
  return {
    ...rest,
    teacher: source.description,
    bytesBefore: source.bytes,
    probe: probe && {
      ...probe,
      forward: less(probe.forward),
      observed: less(probe.observed),
      compileForwardSeconds: share * probe.compileForwardSeconds,
      compileObservedSeconds: share * probe.compileObservedSeconds,
    },
  };
}

type Role = "teacher" | "student";

/**
 * Products with the vocabulary's weights: the teacher alone has one set of logits, a comparison the teacher's and the
 * student's, and it is a comparison that was measured. All else of the head grows with the logits, too.
 */
const headProducts: Record<Role, number> = { teacher: 1, student: 2 };

/** Times of what stages consist of. */
export interface StageTimes {
  /** One pass of the teacher over tokens. */
  pass: (tokens: number, kind: "forward" | "observed") => number;
  /** One pass of a model with its loss over the vocabulary; a student is compared with its teacher there, too. */
  evaluation: (tokens: number, role: Role) => number;
  /** So many looks of a calibration at its student; the layers' sessions are compiled for the first, and stay where they fit. */
  looks: (count: number, tokens: number) => number;
  /** The teacher's pass, in groups whose hidden states fit. */
  targets: (tokens: number) => number;
  /** Passes over the first sequences before the first update: experts counted, routers fitted. */
  beforeTraining: (tokens: number) => number;
  updates: (count: number, tokens: number) => number;
  /** One token more for each of so many sequences that the student writes. */
  step: (rows: number) => number;
  copy: (bytes: number) => number;
  writeBytesPerSecond: number;
  /** Says that checkpoints do not stay in memory, where they do not. */
  coldReads: string;
}

/**
 * Seconds from what was measured: each chunk costs its share, because weights are widened and gathered once a chunk, and
 * each token its own. A student of fewer experts pays less a chunk and to compile, and as much a token. Where the page cache cannot keep a
 * checkpoint, each pass reads it from disk. NaN where nothing was measured.
 */
export function stageTimes(input: EstimateInput): StageTimes {
  const { probe, teacher, student, recipe, memoryBudgetBytes, trained, bytesBefore, bytesAfter, cacheBytes } = input;
  const { sequenceLength } = recipe.data;
  const learner = student ?? teacher;
  const forward = planExecution(teacher, sequenceLength, memoryBudgetBytes, "forward");
  const backward = planExecution(learner, sequenceLength, memoryBudgetBytes, "backward");
  // Share of all layers' sessions that each pass compiles again, because they do not stay.
  const again = Math.max(0, 1 - backward.sessionBytes / compiledBytes(learner, "backward", sequenceLength));
  const compile = { forward: probe?.compileForwardSeconds ?? NaN, observed: probe?.compileObservedSeconds ?? NaN };
  const headRate = probe?.headTokensPerSecond ?? NaN;
  const {
    readBytesPerSecond = fallbackDiskBytesPerSecond,
    writeBytesPerSecond = fallbackDiskBytesPerSecond,
    bufferBytesPerSecond = fallbackBufferBytesPerSecond,
  } = probe?.disk ?? {};
  const bytesOf = (role: Role) => (role === "teacher" ? bytesBefore : bytesAfter);
  const share = (role: Role) => (bytesBefore > 0 ? Math.min(1, bytesOf(role) / bytesBefore) : 1);
  const reading = (role: Role) => (bytesOf(role) > cacheBytes ? bytesOf(role) / readBytesPerSecond : 0);
  const token = {
    teacher: 1,
    // A dense student has no routing: what a token takes goes with its operations.
    student: student ? flopsPerToken(student, sequenceLength) / flopsPerToken(teacher, sequenceLength) : 1,
  };
  const work = (cost: PassCost | undefined, tokens: number, chunks: number, role: Role) =>
    cost === undefined
      ? NaN
      : chunks * cost.secondsPerChunk * share(role) + tokens * cost.secondsPerToken * token[role];
  const chunksOf = (tokens: number) => Math.ceil(tokens / (forward.chunkSequences * sequenceLength));
  const once = (tokens: number, kind: "forward" | "observed", role: Role) =>
    tokens === 0
      ? 0
      : compile[kind] * share(role) + reading(role) + work(probe?.[kind], tokens, chunksOf(tokens), role);
  const pass: StageTimes["pass"] = (tokens, kind) => {
    const shards = kind === "observed" ? Math.ceil(tokens / blockTokens) : 1;
    return once(tokens, kind, "teacher") + Math.max(0, shards - 1) * (again * compile[kind] + reading("teacher"));
  };
  const evaluation: StageTimes["evaluation"] = (tokens, role) =>
    once(tokens, "forward", role) + (headProducts[role] * tokens) / (headProducts.student * headRate);
  return {
    pass,
    evaluation,
    looks: (count, tokens) => {
      const kept = tokens === 0 ? 0 : (1 - again) * compile.forward * share("student");
      return count * evaluation(tokens, "student") - Math.max(0, count - 1) * kept;
    },
    targets: (tokens) => {
      const bytes = 2 * tokens * teacher.hiddenSize * 4;
      const groups = Math.max(1, Math.ceil(bytes / Math.max(1, forward.hiddenStateBytes)));
      return pass(tokens, "forward") + (groups - 1) * (again * compile.forward + reading("teacher"));
    },
    beforeTraining: (tokens) =>
      (recipe.calibrate?.scope === "router+top-experts" ? once(tokens, "forward", "student") : 0) +
      (recipe.calibrate?.initialise === "router-logits" ? once(tokens, "forward", "student") : 0),
    updates: (count, tokens) => {
      if (count === 0) return 0;
      const chunks = count * Math.ceil(tokens / count / (backward.chunkSequences * sequenceLength));
      return (
        (1 + again * (count - 1)) * (probe?.compileUpdateSeconds ?? NaN) * share("student") +
        work(probe?.update, tokens, chunks, "student") * weightGradientFactor(learner, trained) +
        // Forward and backward read all weights once each.
        count * (2 * reading("student") + updateSeconds(trained, writeBytesPerSecond)) +
        tokens / (probe?.headUpdateTokensPerSecond ?? NaN)
      );
    },
    step: (rows) => (rows === 0 ? 0 : reading("student") + work(probe?.forward, rows, 1, "student")),
    // The disk takes what was handed to the page cache while the next bytes are read.
    copy: (bytes) => {
      const reading = bytes / (bytes > cacheBytes ? readBytesPerSecond : bufferBytesPerSecond);
      return Math.max(reading + bytes / bufferBytesPerSecond, bytes / writeBytesPerSecond);
    },
    writeBytesPerSecond,
    coldReads:
      bytesBefore > cacheBytes
        ? `; weights read from disk each pass at ${(readBytesPerSecond / 1e6).toFixed(0)} MB/s`
        : "; weights stay in the page cache",
  };
}

/**
 * A backward pass makes the forward pass again and the gradients of activations, two of three parts of an update; those of
 * all weights would be the fourth.
 */
function weightGradientFactor(learner: ModelDescription, trained: TrainedPrediction | null | undefined): number {
  if (!trained?.sizes) return 1;
  return 1 + Math.min(1, trained.parameters / countParameters(learner).total) / 3;
}

/** Numbers a second that clipping and AdamW get through in plain code (measured: 30 to 60 million). */
const numbersPerSecond = 40e6;

/** Optimiser and writing of the state, which is as large as three to four copies of what trains. */
function updateSeconds(trained: TrainedPrediction | null | undefined, writeBytesPerSecond: number): number {
  if (!trained?.sizes) return 0;
  return trained.parameters / numbersPerSecond + Math.min(256e6, trained.parameters * 16) / writeBytesPerSecond;
}
