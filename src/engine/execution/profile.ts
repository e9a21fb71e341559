import type { ReportProgress } from "../../protocol/progress";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { TokenSequences } from "../data/sequences";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { tokenBatch } from "./batches";
import { ModelExecutor } from "./modelExecutor";
import type { RoutingObserver } from "./observer";

export interface ProfileOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequences: TokenSequences;
  observer: RoutingObserver;
  /** Also report norms, maxima and sums of every expert's outputs. */
  collectOutputs: boolean;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/** One streaming pass of the sequences through the model; each layer's weights are read once. */
export async function profileCheckpoint(options: ProfileOptions): Promise<void> {
  const { sequences, description, report, observer, collectOutputs, signal } = options;
  const executor = await ModelExecutor.open({
    ...options,
    sequenceLength: sequences.sequenceLength,
    direction: "forward",
  });
  const batch = tokenBatch(sequences);
  const total = batch.ids.length;
  let done = 0;
  const onChunk = (tokens: number) => {
    done += tokens / description.layers.length;
    report?.({ stage: "profile", message: "Profiling routing", done: Math.round(done), total, unit: "tokens" });
  };
  try {
    const hidden = await executor.forward(batch, { observer, collectOutputs, signal, onChunk });
    hidden.close();
  } finally {
    await executor.close();
  }
}
