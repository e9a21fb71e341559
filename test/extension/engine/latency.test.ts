import { readdirSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { errorCodeOf } from "../../../src/protocol/errors";
import { EngineClient } from "../../../src/extension/engine/client";
import { recipeSchema } from "../../../src/protocol/recipe";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { bundleEngine } from "../../faults/tinyRun";
import { busyReason, slowdown, tooBusy } from "../../machineSpeed";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
const [small, sharded] = [path.join(folder, "teacher"), path.join(folder, "sharded")];
let script: string;

beforeAll(async () => {
  script = await bundleEngine();
  const common = { numHeads: 4, numKeyValueHeads: 2, vocabSize: 2048, numExpertsPerToken: 4 };
  await makeCheckpoint({
    directory: small,
    family: "qwen3_moe",
    shape: { ...common, hiddenSize: 256, headDim: 64, numLayers: 2, numExperts: 32, moeIntermediateSize: 256 },
    tokenizerFrom: path.resolve("media/sample/checkpoint"),
  });
  await makeCheckpoint({
    directory: sharded,
    family: "qwen3_moe",
    shape: { ...common, hiddenSize: 64, headDim: 16, numLayers: 24, numExperts: 64, moeIntermediateSize: 32 },
    maxShardBytes: 1.2e6,
  });
});

/** Graph runs of a batch as long as this one block the thread that would answer for most of a second. */
const recipe = recipeSchema.parse({
  schemaVersion: 1,
  teacher: small,
  data: { calibration: path.resolve("media/sample/calibration.jsonl"), sequences: 64, sequenceLength: 512 },
  output: path.join(folder, "out"),
  threads: 1,
  memory: "2GiB",
});

it("a checkpoint of 17 shards or more opens within 200 ms while a job computes", async ({ skip }) => {
  expect(readdirSync(sharded).filter((name) => name.endsWith(".safetensors")).length).toBeGreaterThanOrEqual(17);
  const client = new EngineClient({ script, host: "test", idleMs: 60_000, log: () => undefined });
  try {
    await client.request("checkpoint/inspect", { path: sharded });
    const speeds = [slowdown()];
    const stop = new AbortController();
    let hasBegun: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => (hasBegun = resolve));
    client.onEvent((event) => event.name === "run/progress" && hasBegun());
    const job = client.request(
      "run/start",
      { runDirectory: path.join(folder, "run"), recipe, baseFolder: folder },
      stop.signal,
    );
    const ended = job.then(
      () => "done",
      (error: unknown) => errorCodeOf(error),
    );
    await begun;
    const times: number[] = [];
    for (let i = 0; i < 9; i++) {
      const asked = performance.now();
      await client.request("checkpoint/inspect", { path: sharded });
      await client.request("run/list", { runsFolder: folder });
      times.push(performance.now() - asked);
    }
    stop.abort();
    // The job was at work all the while.
    expect(await ended).toBe("cancelled");
    speeds.push(slowdown());
    const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
    const limit = 200 * Math.max(...speeds);
    skip(median > limit && tooBusy(speeds), busyReason);
    expect(median, `milliseconds of all: ${times.map((ms) => ms.toFixed(0)).join(", ")}`).toBeLessThanOrEqual(limit);
  } finally {
    client.dispose();
  }
});
