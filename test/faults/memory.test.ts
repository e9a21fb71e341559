import { mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCheckpoint } from "../bench/makeCheckpoint";
import { measuredRun } from "../bench/measuredRun";
import { parseMemorySize } from "../../src/engine/run/machine/machine";
import { temporaryFolder } from "../support/temporaryFolder";
import { bundleCli } from "./tinyRun";

const memory = "400MiB";
const sizes = { sequences: 16, sequenceLength: 128, batch: 8, memory, threads: 1 };
let cli: string;
beforeAll(async () => {
  cli = await bundleCli();
});
afterAll(() => rmSync(cli, { force: true }));

/** Peak of a whole recipe on a model of this many layers. Nothing here is timed: machines that run tests are busy. */
async function peakOf(numLayers: number, limitBytes?: number): Promise<number> {
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
  const { peaks } = await measuredRun(folder, sizes, { cli, ...(limitBytes === undefined ? {} : { limitBytes }) });
  return Math.max(...peaks.values());
}

describe.skipIf(process.platform !== "linux")("peak memory of a whole recipe", () => {
  it("stays within the budget and does not grow with the layers", async () => {
    const [six, twentyFour] = [await peakOf(6), await peakOf(24)];
    const budget = parseMemorySize(memory);
    expect(six).toBeGreaterThan(50e6);
    expect(twentyFour).toBeLessThanOrEqual(budget);
    expect(twentyFour / six).toBeLessThanOrEqual(1.2);
  }, 300_000);

  it("lets a control group of the budget's size hold it, page cache included", async () => {
    const budget = parseMemorySize(memory);
    expect(await peakOf(6, budget)).toBeLessThanOrEqual(budget);
  }, 300_000);
});
