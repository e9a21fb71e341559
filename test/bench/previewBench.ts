import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { ModelExecutor } from "../../src/engine/execution/modelExecutor";
import { withPreviewProducts } from "../../src/engine/model/previewProducts";
import { openModel } from "../../src/engine/run/modelCache";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { makeCheckpoint } from "./makeCheckpoint";

/**
 * A layer's forward pass with exact products and with those of a preview, in turns: shaped like Qwen3-30B-A3B's, with an eighth of its
 * experts and of 8192 tokens, which are as many rows an expert.
 */
export async function previewBench(given: RuntimeOptions, rounds: number, print: (line: string) => void) {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  try {
    await makeCheckpoint({ directory, family: "qwen3_moe", shape: { numLayers: 1, numExperts: 16, vocabSize: 1024 } });
    // So little that weights are not kept widened, as in a model of 30B.
    const runtime = { ...given, memoryBudgetBytes: 2 * 2 ** 30 };
    const model = await openModel(directory);
    const common = { sequenceLength: 512, runtime, direction: "forward", scratchDirectory: directory } as const;
    const ids = Int32Array.from({ length: 2 * 512 }, (_, i) => (i * 7919) % model.description.vocabSize);
    const executors = { exact: model, preview: withPreviewProducts(model) };
    const seconds: Record<keyof typeof executors, number[]> = { exact: [], preview: [] };
    for (let round = 0; round < rounds; round++) {
      for (const name of ["exact", "preview"] as const) {
        const executor = await ModelExecutor.open({ ...executors[name], ...common });
        // The first tokens compile the graphs.
        (await executor.forward({ ids: ids.subarray(0, 512) })).close();
        const before = process.cpuUsage();
        (await executor.forward({ ids })).close();
        const { user, system } = process.cpuUsage(before);
        await executor.close();
        seconds[name].push((user + system) / 1e6);
      }
    }
    const middle = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
    const [exact, preview] = [middle(seconds.exact), middle(seconds.preview)];
    print(
      `  exact ${exact.toFixed(1)}, preview ${preview.toFixed(1)} processor seconds: ${(exact / preview).toFixed(2)}`,
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
