import type { MetricsLine } from "../../protocol/metrics";
import type { ReportProgress } from "../../protocol/progress";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import { contentKey } from "../checkpoint/contentKey";
import { tokensRead, type TokenSequences } from "../data/sequences";
import type { HeadSource } from "../execution/headGraphs";
import type { RuntimeOptions } from "../runtime/session";

/**
 * Loss and gradients of an update's batch, made elsewhere: those of lossAndGradients, to the bit. Only asked for where
 * routers alone train by kd, lm or kd+lm.
 *
 * @param update.parameters what trains, by key; `numbers` of the batch's training sequences in their order
 * @param update.targets files of the teacher's targets, one for each draw
 */
export type UpdateGradients = (
  update: {
    parameters: ReadonlyMap<string, Float32Array>;
    numbers: ArrayLike<number>;
    numTargets: number;
    targets: readonly string[];
  },
  signal: AbortSignal | undefined,
) => Promise<{ loss: number; gradients: Map<string, Float32Array> }>;

/** Loss and KL of each row of the held-out sequences, made elsewhere: those of heldOutRows, to the bit. */
export type HeldOutRows = (
  of: { parameters: ReadonlyMap<string, Float32Array>; targets: string },
  signal: AbortSignal | undefined,
) => Promise<{ kl: Float32Array; nll: Float32Array }>;

/**
 * The teacher's final normalised hidden states of sequences from `from` on, made elsewhere.
 * @param of.draw of the routing that the options name, or the teacher's own
 * @param write is given whole sequences' rows in their order, and waited for
 */
export type TargetRows = (
  of: { sequences: TokenSequences; from: number; draw: number; isOwnRouting: boolean },
  signal: AbortSignal | undefined,
  write: (firstSequence: number, rows: Float32Array) => Promise<void>,
) => Promise<void>;

/** Parts of a calibration that other processes make; absent ones this process makes. */
export interface Elsewhere {
  gradients?: UpdateGradients;
  heldOut?: HeldOutRows;
  teacherRows?: TargetRows;
}

/** What a calibration works with. */
export interface CalibrationOptions {
  student: HeadSource & { fingerprint: string };
  teacher: HeadSource & { fingerprint: string };
  training: TokenSequences;
  heldOut: TokenSequences | null;
  options: CalibrateOptions;
  /** Student expert -> teacher expert ids by layer, from the student's plan: what matching router logits goes by. */
  expertMapping?: Readonly<Record<string, number[][]>> | null;
  seed: number;
  runtime: RuntimeOptions;
  /** Keeps the training state and the teacher's targets. */
  stateDirectory: string;
  /** States up to this size are written after every update, larger ones at the held-out evaluations. */
  alwaysSavedBytes?: number;
  /** Awaited before the state of the update is saved, so that a line is written for every update of a saved state. */
  onMetrics: (line: MetricsLine) => void | Promise<void>;
  /**
   * Called before the first update with the updates that the saved state has done; -1 without such a state. Lines about
   * later updates are void: those updates are done again.
   */
  onResume?: (step: number) => void | Promise<void>;
  elsewhere?: Elsewhere;
  signal?: AbortSignal;
  report?: ReportProgress;
}

export interface TrainedParameters {
  /** Trained weights by key (tensor name, or name@offset for a slice of a fused tensor), f32. */
  parameters: Map<string, Float32Array>;
  /** Names of the tensors that were trained (trainedNames). */
  trained: string[];
  /** Update whose weights these are; 0: the student's own. */
  keptStep: number;
  totalUpdates: number;
  heldOutBefore: number | null;
  heldOutAfter: number | null;
}

/** Whether the teacher's router logits are needed. */
export function matchesRouterLogits({ loss, initialise }: CalibrateOptions): boolean {
  return loss === "router-logits" || initialise === "router-logits";
}

/** Key of everything that decides a calibration's result; a saved state of another key is not continued. */
export function stateKey(calibration: CalibrationOptions): string {
  const { student, teacher, training, heldOut, options, seed, expertMapping } = calibration;
  const { threads, provider } = calibration.runtime;
  return contentKey({
    ...{ student: student.fingerprint, teacher: teacher.fingerprint, options, seed, threads, provider },
    expertMapping: matchesRouterLogits(options) || options.match !== undefined ? (expertMapping ?? null) : null,
    training: tokensRead(training),
    heldOut: heldOut && tokensRead(heldOut),
  });
}
