import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { distillationCsv, distillationTables } from "../../../src/engine/report/distillationTables";
import { writeReport } from "../../../src/engine/report/writeReport";
import { readDistillation, routerKlOfLooks, updateDistillation } from "../../../src/engine/run/folder/distillationFile";
import { ModelCache } from "../../../src/engine/run/modelCache";
import { stageTable } from "../../../src/engine/run/stages";
import { startRun } from "../../../src/engine/run/startRun";
import { distillationFile, type DistillationArm, type DistillationFile } from "../../../src/protocol/distillation";
import { recipeSchema } from "../../../src/protocol/recipe";
import { temporaryFolder } from "../../support/temporaryFolder";
import { fakeWork } from "../run/fakeWork";

const teacher = path.join(__dirname, "../../fixtures/coarse");
const estimate = (mean: number) => ({ mean, halfWidth95: 0.25 });
const arm = (name: string, more: Partial<DistillationArm>): DistillationArm => ({
  ...{ name, divergence: "reverse", routing: "own", active: 2, draws: 1, onPolicy: 0, seeds: [42] },
  ...{ klToTeacher: estimate(0.5), nllPerToken: estimate(3), difference: null },
  ...{ teacherSeconds: 1.25, writingSeconds: 0, seconds: 4, ...more },
});

test("a run keeps what a teacher is worth by its active experts, in its report and as a table", async () => {
  const folder = temporaryFolder();
  const text = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(40);
  await writeFile(path.join(folder, "text.jsonl"), JSON.stringify({ text }));
  await writeFile(path.join(folder, "other.jsonl"), JSON.stringify({ text: text.toUpperCase() }));
  const data = { calibration: "text.jsonl", evaluation: "other.jsonl", sequences: 8, evaluationSequences: 4 };
  const recipe = recipeSchema.parse({
    ...{ schemaVersion: 1, teacher, data: { ...data, sequenceLength: 32, activeExperts: [1, 4] } },
    ...{ compress: { keep: 0.625 }, output: "out" },
  });
  const runDirectory = path.join(folder, "run");
  const work = fakeWork();
  const machinery = { stages: stageTable(writeReport), work };
  const again = () =>
    startRun(machinery, { runDirectory, recipe, baseFolder: folder }, { signal: new AbortController().signal });
  await again();
  const file = distillationFile.parse(JSON.parse(await readFile(path.join(runDirectory, "distillation.json"), "utf8")));
  expect(file.probe!.rows.map(({ active, klOfStudent }) => [active, klOfStudent!.mean])).toEqual([
    [1, 0.625],
    [4, 1],
  ]);
  const report = await readFile(path.join(runDirectory, "report.md"), "utf8");
  expect(report).toContain("| 4 | 3.5000 ± 0.0100 | 0.5000 ± 0.0100 | 1.0000 ± 0.0100 |");
  expect(report).toContain("| 1 | 75 % | 25 % | 50 % |");
  expect(await readFile(path.join(runDirectory, "report.html"), "utf8")).toContain("Gate mass by layer");
  const csv = await readFile(path.join(runDirectory, "distillation.csv"), "utf8");
  expect(csv).toContain("Quality by active experts,loss of the teacher,active experts,4,nats a token,3.5,0.01\r\n");

  // Nothing is measured twice; the file alone missing is made again.
  work.calls.length = 0;
  await again();
  expect(work.calls).toEqual([]);
  await updateDistillation(runDirectory, { probe: null });
  await again();
  expect(work.calls).toContain("probe experts");
  expect(await readDistillation(runDirectory)).toEqual(file);
});

const refused = (data: object) =>
  recipeSchema.parse({
    ...{ schemaVersion: 1, teacher, output: "out", compress: { keep: 0.625 } },
    data: { calibration: "text.jsonl", sequenceLength: 32, ...data },
  });

test.each([
  ["more experts than there are", { activeExperts: [9], evaluation: "text.jsonl" }, /9 active experts .* has 8/],
  ["no evaluation text", { activeExperts: [] }, /names no evaluation text/],
])("%s is refused before anything runs", async (_, data, message) => {
  const folder = temporaryFolder();
  await writeFile(path.join(folder, "text.jsonl"), JSON.stringify({ text: "one two three ".repeat(400) }));
  const work = fakeWork();
  const run = startRun(
    { stages: stageTable(writeReport), work },
    { runDirectory: path.join(folder, "run"), recipe: refused(data), baseFolder: folder },
    { signal: new AbortController().signal },
  );
  await expect(run).rejects.toThrow(message);
  expect(work.calls).toEqual([]);
});

test("router KL by layer comes from the held-out evaluations of metrics.jsonl", async () => {
  const { description } = await new ModelCache().model(teacher);
  const layers = description.layers.map(({ index }) => index);
  const kl = layers.map((layer) => layer / 8);
  const look = { kind: "held-out" as const, kl: 1, nll: 3, best: true };
  const figure = routerKlOfLooks(
    [
      { ...look, step: 0, routerKl: layers.map(() => 0) },
      { ...look, step: 8, routerKl: kl },
    ],
    description,
  )!;
  expect(figure).toEqual({
    layers,
    evaluations: [
      { step: 0, kl: layers.map(() => 0) },
      { step: 8, kl },
    ],
  });
  expect(routerKlOfLooks([{ ...look, step: 0 }], description)).toBeNull();
  const [table] = distillationTables({ schemaVersion: 1, probe: null, routerKl: figure, arms: null });
  expect(table!.rows[1]).toEqual(["1", "0", "0.125"]);
});

test("arms become tables, and lines by active experts and by draws", () => {
  const file: DistillationFile = {
    ...{ schemaVersion: 1, probe: null, routerKl: null },
    arms: {
      baseline: "reverse",
      before: { klToTeacher: estimate(2), nllPerToken: estimate(5) },
      arms: [
        arm("reverse", {}),
        arm("all", { routing: "active", active: 8, difference: { mean: -0.0461, interval95: [-0.074, -0.018] } }),
        arm("ka 2", { routing: "augment", active: 7, draws: 2, seeds: [1, 2], klToTeacher: estimate(0.75) }),
        arm("ka 1", { routing: "augment", active: 7, draws: 1, onPolicy: 1 }),
        arm("sar", { routing: "student-aware", active: 8, teacherSeconds: null }),
      ],
    },
  };
  const [all, byActive, byDraws] = distillationTables(file);
  expect(all!.rows.map((row) => row.slice(0, 2))).toEqual([
    ["untrained", "–"],
    ["reverse", "reverse, text, own routing"],
    ["all", "reverse, text, 8 experts"],
    ["ka 2 (2 seeds)", "reverse, text, 7 experts, 2 draws"],
    ["ka 1", "reverse, 100 % on-policy, 7 experts, 1 draw"],
    ["sar", "reverse, text, 8 experts, student-aware"],
  ]);
  expect(all!.rows[2]!.slice(2)).toEqual([
    ...["0.5000 ± 0.2500", "3.0000 ± 0.2500", "−0.0461 (−0.0740 to −0.0180)", "1.3 s", "0.0 s", "4.0 s"],
  ]);
  expect(byActive!.series).toEqual([{ name: "reverse, text", points: [{ x: 8, y: 0.5, halfWidth95: 0.25 }] }]);
  expect(byDraws!.series.map(({ name, points }) => [name, points.map(({ x, y }) => [x, y])])).toEqual([
    ["reverse, text", [[2, 0.75]]],
    ["reverse, on-policy", [[1, 0.5]]],
  ]);
  // With scores, the paper's fourth figure; an arm that was not scored is not in it.
  const rougeL = { mean: 12.345, deviation: 0.5, responses: 40 };
  const scored = { ...file.arms!, arms: [arm("reverse", {}), { ...file.arms!.arms[2]!, rougeL }] };
  const tables = distillationTables({ ...file, arms: scored });
  expect(tables[0]!.rows.map((row) => row[4])).toEqual(["–", "–", "12.35 ± 0.50"]);
  expect(tables[0]!.rows.every((row) => row.length === tables[0]!.head.length)).toBe(true);
  expect(tables.at(-1)!.rows).toEqual([["2", "reverse, text", "12.35 ± 0.50", "40"]]);
  expect(tables.at(-1)!.series).toEqual([{ name: "reverse, text", points: [{ x: 2, y: 12.345 }] }]);
  expect(distillationCsv(file).split("\r\n")).toContain(
    'Students by draws of Knowledge Augmentation,"reverse, text",draws,2,"KL to the teacher, nats a token",0.75,0.25',
  );
});
