import { cpSync, renameSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../../src/engine/checkpoint/open";
import { InputWatch } from "../../../../src/engine/run/folder/inputWatch";
import { ModelCache } from "../../../../src/engine/run/modelCache";
import { stageTable } from "../../../../src/engine/run/stages/index";
import { readRun } from "../../../../src/engine/run/folder/runFolder";
import { resumeRun, startRun } from "../../../../src/engine/run/startRun";
import { RerouteError } from "../../../../src/protocol/errors";
import { recipeSchema } from "../../../../src/protocol/recipe";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { fakeWork } from "../fakeWork";

const coarse = path.join(__dirname, "../../../fixtures/coarse");

function copyOfModel(): { directory: string; shard: string } {
  const directory = path.join(temporaryFolder(), "model");
  cpSync(coarse, directory, { recursive: true });
  return { directory, shard: path.join(directory, "model.safetensors") };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

const changes: [string, (shard: string) => void][] = [
  ["cut short", (shard) => truncateSync(shard, statSync(shard).size / 2)],
  ["written again", (shard) => utimesSync(shard, new Date(), new Date(Date.now() + 5000))],
  [
    "replaced by another",
    (shard) => {
      writeFileSync(`${shard}.new`, "other");
      renameSync(`${shard}.new`, shard);
    },
  ],
  ["moved away", (shard) => renameSync(shard, `${shard}.away`)],
];

describe("a watch over weight files", () => {
  it.each(changes)("stops the work once one is %s, and names it", async (_name, change) => {
    const { directory, shard } = copyOfModel();
    const models = new ModelCache();
    await models.model(directory);
    const outer = new AbortController().signal;
    const watch = new InputWatch(models, outer, 0.005);
    change(shard);
    await aborted(watch.signal);
    watch.stop();
    const consequence = new RerouteError("cancelled", "cancelled");
    const found = await watch.explain(consequence, outer);
    expect(found).toMatchObject({ message: expect.stringContaining("model.safetensors") as string });
    expect(["checkpoint/changed", "checkpoint/not-found"]).toContain((found as RerouteError).code);
  });

  it("leaves failures alone that have another cause, and what the user cancelled", async () => {
    const { directory, shard } = copyOfModel();
    const models = new ModelCache();
    await models.model(directory);
    const user = new AbortController();
    const watch = new InputWatch(models, user.signal, 60);
    const failure = new Error("something else");
    expect(await watch.explain(failure, user.signal)).toBe(failure);
    user.abort();
    expect(watch.signal.aborted).toBe(true);
    truncateSync(shard, 10);
    const cancelled = new RerouteError("cancelled", "cancelled");
    expect(await watch.explain(cancelled, user.signal)).toBe(cancelled);
    watch.stop();
  });

  it("says nothing of a checkpoint that a stage has forgotten and writes anew", async () => {
    const { directory, shard } = copyOfModel();
    const models = new ModelCache();
    await models.model(directory);
    models.forget(directory);
    truncateSync(shard, 10);
    await expect(models.checkUnchanged()).resolves.toBeUndefined();
  });
});

it.each(changes)(
  "a run whose teacher is %s in the middle of a stage stops there, and goes on later",
  async (_name, change) => {
    const { directory, shard } = copyOfModel();
    const folder = path.dirname(directory);
    const copy = path.join(folder, "copy");
    cpSync(shard, copy, { preserveTimestamps: true });
    for (const [name, word] of [
      ["calibration.txt", "the quick brown fox "],
      ["evaluation.txt", "JUMPS OVER THE LAZY DOG "],
    ] as const)
      writeFileSync(path.join(folder, name), word.repeat(300));
    const recipe = recipeSchema.parse({
      schemaVersion: 1,
      teacher: directory,
      data: {
        ...{ calibration: "calibration.txt", evaluation: "evaluation.txt" },
        ...{ sequences: 4, evaluationSequences: 4, sequenceLength: 32 },
      },
      compress: { method: "reap", keep: 0.625 },
      output: "out",
    });
    const work = fakeWork();
    const profile = work.profile;
    let attempts = 0;
    work.profile = async (options) => {
      if (++attempts === 1) {
        change(shard);
        // A stage of hours: only the watch can end it.
        await aborted(options.signal);
        throw new RerouteError("cancelled", "cancelled");
      }
      await profile(options);
    };
    const machinery = { stages: stageTable(() => Promise.resolve()), work };
    const runDirectory = path.join(folder, "run");
    const hooks = { signal: new AbortController().signal };
    await expect(startRun(machinery, { runDirectory, recipe, baseFolder: folder }, hooks)).rejects.toMatchObject({
      code: expect.stringMatching(/^checkpoint\/(changed|not-found)$/) as string,
    });
    const { stages } = await readRun(runDirectory);
    expect(stages[0]).toMatchObject({
      id: "profile",
      state: "failed",
      error: { code: expect.stringMatching("checkpoint/") as string },
    });
    cpSync(copy, shard, { preserveTimestamps: true });
    await expect(openCheckpoint(directory)).resolves.toBeDefined();
    const done = await resumeRun(machinery, runDirectory, hooks);
    expect(done.stages.filter(({ state }) => state === "failed")).toEqual([]);
    expect(attempts).toBe(2);
  },
);
