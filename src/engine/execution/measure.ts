import os from "node:os";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { ModelDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { MemoryHiddenStates } from "./hiddenStates";
import { ModelExecutor } from "./modelExecutor";
import { Tape } from "./tape";
import { moeLayers } from "./moeLayers";

export interface MeasureOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  signal?: AbortSignal;
}

/** Tokens of the probe: enough rows an expert for products to run at speed, few enough to take seconds. */
const probeTokens = 2048;

/**
 * Measures one MoE layer of this model on this machine, forward and as a Router KD update, and scales by the number of
 * layers. The vocabulary head and reading weights from a cold disk are not part of it.
 */
export async function measureMachine({ checkpoint, description, sequenceLength, runtime, signal }: MeasureOptions) {
  const layers = moeLayers(description);
  const layer = layers[0]![0];
  const oneLayer: ModelDescription = { ...description, layers: [{ ...layer, index: layer.index }] };
  const sequences = Math.max(1, Math.ceil(probeTokens / sequenceLength));
  const tokens = sequences * sequenceLength;
  const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % description.vocabSize);
  const executor = await ModelExecutor.open({
    checkpoint,
    description: oneLayer,
    sequenceLength,
    runtime,
    direction: "backward",
    scratchDirectory: os.tmpdir(),
  });
  try {
    // The first pass compiles sessions and maps weights; the second is what a run repeats.
    let forward = 0;
    let backward = 0;
    for (let pass = 0; pass < 2; pass++) {
      const tape = new Tape();
      let started = performance.now();
      const hidden = await executor.forward({ ids }, { tape, signal });
      forward = performance.now() - started;
      started = performance.now();
      await executor.backward(tape, new MemoryHiddenStates(tokens, description.hiddenSize), { signal });
      backward = performance.now() - started;
      hidden.close();
      tape.close();
    }
    const perModel = (milliseconds: number) => tokens / (milliseconds / 1e3) / description.layers.length;
    return {
      forwardTokensPerSecond: perModel(forward),
      updateTokensPerSecond: perModel(forward + backward),
      assumption: `measured on layer ${layer.index} with ${tokens} tokens, times ${description.layers.length} layers; head and cold reads not included`,
    };
  } finally {
    await executor.close();
  }
}
