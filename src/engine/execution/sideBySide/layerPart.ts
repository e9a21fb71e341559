import type { ModelDescription } from "../../model/description";
import type { RuntimeOptions } from "../../runtime/session";
import type { Leaves } from "../leaves";
import type { MoeObservation } from "../observer";

/** What a thread that runs layers works with. */
export interface LayerThreadData {
  directory: string;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  leaves: Leaves;
}

/** Whole sequences that go through one layer. */
export interface LayerPart {
  /** Place of the layer in the model. */
  layer: number;
  /** [tokens, hidden] */
  x: Float32Array;
  /** Of these rows in the batch. */
  firstToken: number;
  /** [tokens] 1 for those that count; absent: all. */
  valid: Uint8Array | undefined;
  /** Current values of the layer's router, which may differ from the checkpoint's. */
  parameters: ReadonlyMap<string, Float32Array>;
  observes: boolean;
  collectOutputs: boolean;
}

export interface LayerPartResult {
  /** [tokens, hidden] */
  output: Float32Array;
  /** What an observer sees, chunk by chunk, without the arrays that only few read. */
  seen: MoeObservation[];
  /** That the thread's graphs ran. */
  graphSeconds: number;
}
