import { mkdir, mkdtemp, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { reusingProfiles } from "../../../src/engine/run/knownProfile";
import { preflight } from "../../../src/engine/run/preflight/preflight";
import { stageTable } from "../../../src/engine/run/stages";
import { startRun } from "../../../src/engine/run/startRun";
import { recipeSchema, type Recipe } from "../../../src/protocol/recipe";
import { fakeWork, type FakeWork } from "./fakeWork";

const teacher = path.join(__dirname, "../../fixtures/coarse");
const words = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(20);
let folder = "";
let work: FakeWork;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "known-profile-"));
  work = fakeWork();
  await writeFile(path.join(folder, "text.txt"), words);
});
afterEach(() => rm(folder, { recursive: true }));

const data = { calibration: "text.txt", sequences: 4, sequenceLength: 32 };
const directory = (name: string) => path.join(folder, "runs", name);
const recipe = (name: string, change: object = {}): Recipe =>
  recipeSchema.parse({
    schemaVersion: 1,
    name,
    teacher,
    data,
    output: `out-${name}`,
    memory: "1GiB",
    threads: 1,
    ...change,
  });

async function profilesMade(name: string, change: object = {}, runDirectory = directory(name)): Promise<number> {
  work.calls = [];
  await startRun(
    { stages: reusingProfiles(stageTable(async () => undefined)), work },
    { runDirectory, recipe: recipe(name, change), baseFolder: folder },
    { signal: new AbortController().signal },
  );
  return work.calls.filter((call) => call.startsWith("profile")).length;
}
const foretold = (name: string, change: object = {}) =>
  preflight(recipe(name, change), folder, { runDirectory: directory(name), probe: () => work.probe({} as never) });

it("takes over the profile of a run beside it, to the byte, and says so before and in its log", async () => {
  const layers = await profilesMade("first");
  expect(layers).toBeGreaterThan(0);
  const alone = (await foretold("again", { data: { ...data, sequences: 3 } })).stages[0]!;
  expect(alone.seconds).toBeGreaterThan(0);

  const { profileOf, stages } = await foretold("second", { compress: { method: "reap", keep: 0.5 } });
  expect(profileOf).toEqual({ name: "first", runDirectory: directory("first") });
  expect(stages[0]).toMatchObject({
    stage: "profile",
    seconds: 0,
    assumption: 'the profile of the run "first" is reused',
  });
  expect(await profilesMade("second", { compress: { method: "reap", keep: 0.5 } })).toBe(0);
  expect(await readFile(path.join(directory("second"), "log.jsonl"), "utf8")).toContain('"run":"first"');
  const bytes = (name: string) => readFile(path.join(directory(name), "routing-statistics.safetensors"));
  expect((await bytes("second")).equals(await bytes("first"))).toBe(true);
  // A comparison's cell looks beside its comparison.
  expect(await profilesMade("cell", {}, path.join(directory("grid"), "cells", "reap-0.5"))).toBe(0);
});

const others: [what: string, change: object][] = [
  ["another amount", { data: { ...data, sequences: 3 } }],
  ["another length", { data: { ...data, sequenceLength: 16 } }],
  ["other threads, which order the sums", { threads: 2 }],
];
it.each(others)("makes its own of %s", async (_, change) => {
  const layers = await profilesMade("first");
  expect((await foretold("second", change)).profileOf).toBeUndefined();
  expect(await profilesMade("second", change)).toBe(layers);
});

it("makes its own of a text that has changed, or where the other's file is gone", async () => {
  const layers = await profilesMade("first");
  await rm(path.join(directory("first"), "routing-statistics.safetensors"));
  expect(await profilesMade("second")).toBe(layers);

  // The same name and size, and another content.
  await writeFile(path.join(folder, "text.txt"), words.replaceAll("fox", "cow"));
  const { mtime } = await stat(path.join(directory("second"), "run.json"));
  await utimes(path.join(folder, "text.txt"), mtime, new Date(mtime.getTime() + 10_000));
  expect((await foretold("third")).profileOf).toBeUndefined();
  expect(await profilesMade("third")).toBe(layers);
  await mkdir(directory("empty"));
  expect(await profilesMade("fourth")).toBe(0);
});
