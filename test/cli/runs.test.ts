import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { runCli } from "../../src/cli/program";
import { newRun, writeRun } from "../../src/engine/run/folder/runFolder";
import { runSize } from "../../src/engine/run/folder/runSize";
import { isFound, tagsOf } from "../../src/protocol/labels";
import { withAbsolutePaths } from "../../src/protocol/recipePaths";
import { recipeSchema } from "../../src/protocol/recipe";
import { temporaryFolder } from "../support/temporaryFolder";

const folder = temporaryFolder();
const recipe = recipeSchema.parse({
  schemaVersion: 1,
  teacher: "models/teacher",
  data: { calibration: "text.txt" },
  compress: { method: "reap", keep: 0.5 },
  output: "out",
});

beforeAll(async () => {
  for (const [id, name] of [
    ["2026-11-01_first", "first"],
    ["2026-11-02_second", "second"],
  ] as const) {
    const directory = path.join(folder, ".reroute/runs", id);
    mkdirSync(directory, { recursive: true });
    mkdirSync(path.join(folder, "models/teacher"), { recursive: true });
    const run = newRun(id, { ...recipe, name }, folder);
    await writeRun(directory, { ...run, createdAt: `${id.slice(0, 10)}T12:00:00.000Z` });
  }
});

async function reroute(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const result = { code: 0, out: "", err: "" };
  const signal = new AbortController().signal;
  const io = {
    out: (text: string) => (result.out += text),
    err: (text: string) => (result.err += text),
    isTerminal: false,
    columns: 80,
    signal,
    cwd: folder,
  };
  result.code = await runCli(argv, io);
  return result;
}

it("lists runs, newest first, with what they are called and their size", async () => {
  const { code, out } = await reroute("runs");
  expect(code).toBe(0);
  const [head, ...rows] = out.trimEnd().split("\n");
  expect(head).toMatch(/^Run +State +Method +Verdict .*Size +Tags$/);
  expect(rows.map((row) => row.split(/\s{2,}/).slice(0, 3))).toEqual([
    ["second", "pending", "reap"],
    ["first", "pending", "reap"],
  ]);
  expect(rows[0]).toMatch(/2026-11-02 12:00 +[\d.]+ KiB/);
});

it("names and tags a run, finds it by them, and takes them back", async () => {
  await reroute("runs", "2026-11-01_first", "--name", "baseline", "--tag", "paper", "lr 1e-3");
  const named = (await reroute("runs", "--search", "#paper")).out;
  expect(named).toMatch(/baseline .*#paper #lr 1e-3/);
  expect(named).not.toContain("second");
  expect((await reroute("runs", "baseline", "--untag", "paper", "--name", "")).out).toMatch(/^first .*#lr 1e-3$/m);
  expect((await reroute("runs", "--search", "#paper")).out).toBe("no run in .reroute/runs has: #paper\n");
});

it("prints a recipe that means the same anywhere", async () => {
  const printed = recipeSchema.parse(JSON.parse((await reroute("runs", "second", "--recipe")).out));
  expect(printed).toMatchObject({
    name: "second",
    teacher: path.join(folder, "models/teacher"),
    data: { calibration: path.join(folder, "text.txt") },
    compress: { method: "reap", keep: 0.5 },
    output: path.join(folder, "out"),
  });
});

it.each([
  ["Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"],
  ["Qwen/Qwen3-30B-A3B@abc", "Qwen/Qwen3-30B-A3B@abc"],
  ["models/teacher", path.join(folder, "models/teacher")],
  ["../teacher", path.join(path.dirname(folder), "teacher")],
])("a teacher written %s stays what it is", (teacher, expected) => {
  expect(withAbsolutePaths({ ...recipe, teacher }, folder).teacher).toBe(expected);
});

it.each([
  ["a run that is not there", ["runs", "third"], /^error run\/invalid: .*"third" was not found/],
  ["nobody works on it", ["runs", "second", "--cancel"], /^error run\/invalid: No process works on/],
  ["an option without its run", ["runs", "--tag", "x", "--dir", "."], /^error (arguments|run)\/invalid/],
  ["a tag that is too long", ["runs", "second", "--tag", "x".repeat(41)], /^error arguments\/invalid: The label tags/],
])("refuses %s", async (_, argv, message) => {
  const { code, err } = await reroute(...argv);
  expect(err).toMatch(message);
  expect(code).toBe(2);
});

it("a run folder stands for its recipe, and a recipe's output can be another", async () => {
  const { err } = await reroute("run", ".reroute/runs/2026-11-02_second", "--output", "elsewhere", "--dry-run");
  // The model is not there: that it is looked for beside the recipe says that the recipe was read.
  expect(err).toContain(path.join(folder, "models/teacher"));
});

it.each([
  ["its folder alone before it has written a checkpoint", "pending", false, null],
  ["and its checkpoint once it has", "done", true, 2 + 5],
  ["a folder of that name without the mark is not the run's", "done", false, null],
] as const)("size: %s", async (_, state, marked, expected) => {
  const place = temporaryFolder();
  const directory = path.join(place, "runs/a");
  mkdirSync(directory, { recursive: true });
  mkdirSync(path.join(place, "out"));
  writeFileSync(path.join(place, "out/model.safetensors"), "12345");
  if (marked) writeFileSync(path.join(place, "out/reroute.json"), "{}");
  const run = newRun("a", recipe, place);
  await writeRun(directory, { ...run, stages: run.stages.map((s) => (s.id === "compress" ? { ...s, state } : s)) });
  const { bytes, output } = await runSize(directory);
  expect(bytes).toBeGreaterThan(500);
  expect(output?.bytes ?? null).toBe(expected);
});

const run = {
  id: "2026-11-30_qwen",
  name: "Qwen at half",
  tags: ["paper", "lr 1e-3"],
  method: "reap",
  state: "done" as const,
  verdict: "no gain",
  teacher: "/models/qwen3-30b",
  createdAt: "2026-11-30T12:00:00Z",
};
it.each([
  ["", true],
  ["half QWEN", true],
  ["reap no gain", true],
  ["2026-11", true],
  ["#paper", true],
  ["#qwen", false],
  ["svd", false],
  ["30b #lr", true],
])("search %j: %s", (search, found) => {
  expect(isFound(run, search)).toBe(found);
});

it("tags are written with commas, with or without #, each once", () => {
  expect(tagsOf(" #paper, lr 1e-3,, paper ")).toEqual(["paper", "lr 1e-3"]);
});
