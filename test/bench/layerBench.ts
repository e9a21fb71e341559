import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { MemoryHiddenStates } from "../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../src/engine/execution/modelExecutor";
import { Tape } from "../../src/engine/execution/tape";
import { describeModel } from "../../src/engine/model/families";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { gemmRate } from "./gemmRate";
import { makeCheckpoint } from "./makeCheckpoint";

/** Multiply-adds times two of one token in one Qwen3-30B-A3B layer, attention over half a sequence of 512 on average. */
const flopsPerToken = 2 * (2048 * 4096 * 2 + 2048 * 512 * 2 + 8 * 3 * 2048 * 768 + 2048 * 128) + 32 * 2 * 2 * 512 * 128;

/**
 * One Qwen3-30B-shaped MoE layer from random bf16 weights on disk, 4096 tokens as 8 x 512: forward, and a Router KD
 * update (forward, recompute and input gradients, all counted as useful) as shares of the f32 matrix-product rate
 * measured around each run.
 */
export async function layerBench(
  runtime: RuntimeOptions,
  rounds: number,
  print: (line: string) => void,
): Promise<void> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  try {
    const checkpointFolder = path.join(directory, "checkpoint");
    await makeCheckpoint({
      directory: checkpointFolder,
      family: "qwen3_moe",
      shape: { numLayers: 2, vocabSize: 1024 },
    });
    const checkpoint = await openCheckpoint(checkpointFolder);
    const { description } = describeModel(checkpoint);
    const sequenceLength = 512;
    const ids = Int32Array.from({ length: 8 * sequenceLength }, (_, i) => (i * 7919) % description.vocabSize);
    const executor = await ModelExecutor.open({
      checkpoint,
      // The upper layer: its update needs input gradients, as all layers but the lowest do.
      description: { ...description, layers: description.layers },
      sequenceLength,
      runtime,
      direction: "backward",
      scratchDirectory: directory,
    });
    const forwardShares: number[] = [];
    const updateShares: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      const rateBefore = await gemmRate(runtime, 3);
      const tape = new Tape();
      const started = performance.now();
      const hidden = await executor.forward({ ids }, { tape });
      const forward = (performance.now() - started) / 1e3 / 2;
      const rateBetween = await gemmRate(runtime, 3);
      const startedBackward = performance.now();
      await executor.backward(tape, new MemoryHiddenStates(ids.length, description.hiddenSize));
      // Layer 0 computes no input gradient: attention's backward is left out there, its experts' too.
      const backward = (performance.now() - startedBackward) / 1e3;
      const rateAfter = await gemmRate(runtime, 3);
      hidden.close();
      tape.close();
      const rate = (rateBefore + rateBetween + rateAfter) / 3;
      const flops = ids.length * flopsPerToken;
      const share = flops / forward / ((rateBefore + rateBetween) / 2);
      // Useful: two forward passes, and recompute plus input gradients of the upper layer; layer 0 recomputes its experts
      // for the routing weights' gradients, which needs the recompute and one product of three.
      const updateShare = (flops * 4 + flops * lowestLayerShare) / (forward * 2 + backward) / rate;
      const line = `forward ${forward.toFixed(2)} s a layer, ${(share * 100).toFixed(0)} % of GEMM (${(rate / 1e9).toFixed(0)} GFLOP/s); update ${(updateShare * 100).toFixed(0)} %`;
      print(round === 0 ? `  warm-up: ${line}` : `  ${line}`);
      if (round > 0) {
        forwardShares.push(share);
        updateShares.push(updateShare);
      }
    }
    await executor.close();
    print(`  median: forward ${percent(forwardShares)}, Router KD update ${percent(updateShares)} of the GEMM rate`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Experts' recompute of gate and up and the product with the down projection, of a layer's forward products. */
const lowestLayerShare = (8 * 3 * 2048 * 768 * 2) / flopsPerToken;

function percent(shares: number[]): string {
  const middle = [...shares].sort((a, b) => a - b)[Math.floor(shares.length / 2)]!;
  return `${(middle * 100).toFixed(0)} %`;
}
