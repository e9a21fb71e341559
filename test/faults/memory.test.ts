import { mkdirSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { makeCheckpoint } from "../bench/makeCheckpoint";
import { measuredRun } from "../bench/measuredRun";
import { parseMemorySize } from "../../src/engine/run/machine/machine";
import { temporaryFolder } from "../support/temporaryFolder";
import { isNightly } from "../support/nightly";
import { bundleCli } from "./tinyRun";

const memory = "400MiB";
const sizes = { sequences: 8, sequenceLength: 128, batch: 4, memory, threads: 1 };
const layers = isNightly ? ([6, 24] as const) : ([3, 9] as const);
let cli: string;
beforeAll(async () => {
  cli = await bundleCli();
});

/** Peak of a whole recipe on a model of this many layers. Nothing here is timed: machines that run tests are busy. */
async function peakOf(numLayers: number, limitBytes: number): Promise<number> {
  const folder = path.join(temporaryFolder(), "memory");
  mkdirSync(folder);
  await makeCheckpoint({
    directory: path.join(folder, "teacher"),
    family: "qwen3_moe",
    shape: {
      ...{ hiddenSize: 256, numExperts: 32, numExpertsPerToken: 4, moeIntermediateSize: 128, vocabSize: 2048 },
      ...{ numHeads: 4, numKeyValueHeads: 2, headDim: 64, numLayers },
    },
    tokenizerFrom: path.resolve("media/sample/checkpoint"),
  });
  const { peaks } = await measuredRun(folder, sizes, { cli, limitBytes });
  return Math.max(...peaks.values());
}

// Where a control group can be made, the kernel holds each run to the budget, page cache included.
it.skipIf(process.platform !== "linux")(
  "a whole recipe stays within its budget and does not grow with the layers",
  async () => {
    const budget = parseMemorySize(memory);
    let [few, many] = [0, 0];
    // Peaks are sampled, and a busy machine misses some of a short run: the largest that was seen is nearest.
    for (let tries = 0; tries < 3 && !(many / few <= 1.2); tries++) {
      few = Math.max(few, await peakOf(layers[0], budget));
      many = Math.max(many, await peakOf(layers[1], budget));
    }
    expect(few).toBeGreaterThan(50e6);
    expect(many).toBeLessThanOrEqual(budget);
    expect(many / few).toBeLessThanOrEqual(1.2);
  },
);
