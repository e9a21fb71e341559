import {
  closeSync,
  cpSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { formatSafetensorsHeader } from "../../../../src/engine/checkpoint/headerFormat";
import { executeRun } from "../../../../src/engine/run/executeRun";
import { ModelCache } from "../../../../src/engine/run/modelCache";
import { readRun, pendingStage } from "../../../../src/engine/run/folder/runFolder";
import { noScratch } from "../../../../src/engine/run/stages/forecast";
import type { Stage } from "../../../../src/engine/run/stages/stage";
import { recipeSchema } from "../../../../src/protocol/recipe";
import { stageIds, type RunFile, type StageId } from "../../../../src/protocol/run";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { fakeWork } from "../fakeWork";

const coarse = path.join(__dirname, "../../../fixtures/coarse");

/** The coarse model in two files; the second one holds a tensor of so many bytes that nothing uses, as a hole. */
function modelWith(extraBytes: number): string {
  const directory = path.join(temporaryFolder(), "model");
  cpSync(coarse, directory, { recursive: true });
  renameSync(path.join(directory, "model.safetensors"), path.join(directory, "part-1.safetensors"));
  const header = formatSafetensorsHeader([{ name: "unused", dtype: "U8", shape: [extraBytes] }], {});
  const file = openSync(path.join(directory, "part-2.safetensors"), "w");
  writeSync(file, header);
  ftruncateSync(file, header.byteLength + extraBytes);
  closeSync(file);
  return directory;
}

function stagesThat(look: (models: ModelCache) => Promise<unknown>, done: StageId[]): Record<StageId, Stage> {
  const one = (id: StageId): Stage => ({
    id,
    inputs: ({ models }) => look(models),
    hasOutputs: () => Promise.resolve(true),
    discard: () => Promise.resolve(),
    run: () => {
      done.push(id);
      return Promise.resolve();
    },
    forecast: () => ({ seconds: 0, teacherSeconds: 0, peakMemoryBytes: 0, assumption: "" }),
    scratch: () => noScratch,
  });
  return Object.fromEntries(stageIds.map((id) => [id, one(id)])) as Record<StageId, Stage>;
}

it.each([
  ["large", 600 * 2 ** 20, true],
  ["small", 1000, false],
])("weights of a %s checkpoint that were written since: results are used again", async (_size, extraBytes, isTold) => {
  const directory = modelWith(extraBytes);
  const runDirectory = path.join(path.dirname(directory), "run");
  mkdirSync(runDirectory);
  writeFileSync(path.join(path.dirname(directory), "text.txt"), "text");
  const recipe = recipeSchema.parse({
    schemaVersion: 1,
    teacher: directory,
    data: { calibration: "text.txt" },
    compress: { method: "reap", keep: 0.5 },
    output: "out",
  });
  const done: StageId[] = [];
  const attempt = async (run: RunFile) => {
    const warnings: string[] = [];
    await executeRun({
      ...{ runDirectory, run, work: fakeWork(), signal: new AbortController().signal },
      stages: stagesThat(async (models) => (await models.model(directory)).fingerprint, done),
      onWarning: (message) => warnings.push(message),
    });
    return warnings;
  };
  const first: RunFile = {
    ...{
      schemaVersion: 1,
      id: "one",
      name: "one",
      createdAt: "now",
      reroute: "0",
      recipe,
      baseFolder: path.dirname(directory),
    },
    ...{ versions: {}, runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 }, preflight: null },
    stages: stageIds.map((id) => pendingStage(id)),
  };
  expect(await attempt(first)).toEqual([]);
  expect(await attempt(await readRun(runDirectory))).toEqual([]);
  // As a copy would, or another download of the same.
  utimesSync(path.join(directory, "part-2.safetensors"), new Date(), new Date(Date.now() + 60_000));
  const warnings = await attempt(await readRun(runDirectory));
  expect(done).toEqual([...stageIds]);
  expect(warnings).toHaveLength(isTold ? 1 : 0);
  for (const warning of warnings) expect(warning).toMatch(/were written since stage .* start a new run folder$/);
});
