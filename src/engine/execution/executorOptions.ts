import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import type { Way } from "../runtime/sideBySide/fasterWay";
import type { ExpertSampler } from "./expertSampler";
import type { Leaves } from "./leaves";

/** What an executor runs, and how. */
export interface ExecutorOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  direction: "forward" | "backward";
  /** Folder for hidden states that do not fit the budget. */
  scratchDirectory: string;
  /** Keys of weights that train beside the routers. */
  trainable?: ReadonlySet<string>;
  /** Replaces some of what routing selects. */
  sampler?: ExpertSampler;
  /** By layer number, experts that forward passes do not select; looked at anew in each pass. */
  blocked?: ReadonlyMap<number, readonly number[]>;
  /** By layer number, of every MoE layer [experts, I] 0 for units that forward passes leave out, else 1; looked at anew in each. */
  unitMasks?: ReadonlyMap<number, Float32Array>;
  /** How sums over tokens are cut; a batch begins with a leaf. For tests: absent, as everywhere. */
  leaves?: Leaves | undefined;
  /** Parts of forward passes always go this way, instead of the faster one; for tests. */
  way?: Way;
}
