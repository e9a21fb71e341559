import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it, test } from "vitest";
import { checkpointSize } from "../../../../src/engine/compression/plannedSize";
import { mappingOfMade } from "../../../../src/engine/compression/plan/expertMapping";
import { listRuns, tradeOffPanel } from "../../../../src/engine/report/panels";
import { writeReport } from "../../../../src/engine/report/writeReport";
import { openModel } from "../../../../src/engine/run/modelCache";
import { preflight } from "../../../../src/engine/run/preflight/preflight";
import { stageTable } from "../../../../src/engine/run/stages";
import { startRun } from "../../../../src/engine/run/startRun";
import type { EvaluationFile } from "../../../../src/protocol/evaluation";
import type { Progress } from "../../../../src/protocol/progress";
import type { Provenance } from "../../../../src/protocol/provenance";
import { recipeSchema, type Recipe } from "../../../../src/protocol/recipe";
import { fakeWork, type FakeWork } from "../fakeWork";

const teacher = path.join(__dirname, "../../../fixtures/coarse");
let folder = "";
let count = 0;
let work: FakeWork;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "steps-"));
  const words = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(60);
  await writeFile(path.join(folder, "calibration.txt"), words);
  const documents = Array.from({ length: 40 }, (_, i) => words.slice(i, i + 25).toUpperCase());
  await writeFile(path.join(folder, "evaluation.txt"), documents.join("\n\n"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  work = fakeWork();
  count += 1;
});

type Step = Record<string, unknown>;
const compress = (method: string, keep: number, options: Step = {}): Step => ({ compress: { method, keep, options } });
const calibrate: Step = { calibrate: { heldOut: 0.25 } };
/** 8 experts of 192 units: 5 stay, then 3 of them, calibrated, then 8-bit codes. */
const chain = [
  compress("aimer", 0.625),
  compress("random", 0.6),
  calibrate,
  compress("rtn", 1, { bits: 8, group: 64 }),
];

function recipe(steps: Step[], change: object = {}): Recipe {
  return recipeSchema.parse({
    schemaVersion: 1,
    teacher,
    data: {
      ...{ calibration: "calibration.txt", evaluation: "evaluation.txt" },
      ...{ sequences: 4, evaluationSequences: 24, sequenceLength: 32 },
    },
    steps,
    output: `out-${count}`,
    ...change,
  });
}

const runDirectory = () => path.join(folder, "runs", `run-${count}`);
const start = (r: Recipe, extra: object = {}) =>
  startRun(
    { stages: stageTable(writeReport), work },
    { runDirectory: runDirectory(), recipe: r, baseFolder: folder },
    { signal: new AbortController().signal, ...extra },
  );
const json = async <T>(...parts: string[]): Promise<T> => JSON.parse(await readFile(path.join(...parts), "utf8")) as T;

describe("a pipeline", () => {
  it("runs each step on what the one before it wrote, against the teacher, and nothing when called again", async () => {
    const shares: number[] = [];
    const report = ({ run }: Progress) => void shares.push(run!.share);
    const run = await start(recipe(chain), { report });
    const told = run.stages.map(({ id, step, state }) => `${step ?? ""} ${id} ${state}`);
    expect(told).toEqual([
      ...["1 profile done", "1 compress done", "1 evaluate done", "2 compress done", "2 evaluate done"],
      ...["3 calibrate done", "3 evaluate done", "4 compress done", "4 evaluate done", " report done"],
    ]);
    expect(shares.length).toBeGreaterThan(0);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));

    // The pre-flight knew every checkpoint before there was one: what was written is counted here.
    const written = ["steps/1-aimer", "steps/2-random", "steps/3-calibrate"].map((dir) =>
      path.join(runDirectory(), dir, "checkpoint"),
    );
    const models = await Promise.all([...written, path.join(folder, `out-${count}`)].map(openModel));
    const sizes = models.map(({ checkpoint }) => checkpointSize(checkpoint));
    expect(run.preflight!.steps!.map(({ parameters, bytes }) => ({ parameters, bytes }))).toEqual(sizes);

    // The teacher's experts behind the twice pruned ones, by both plans.
    const [first, second] = await Promise.all(written.map((dir) => json<Provenance>(dir, "reroute.json")));
    const kept = (made: Provenance | undefined) =>
      (made!.plan as { layers: Record<string, { kept: number[] }> }).layers["3"]!.kept;
    expect(second!.sourceExperts!["3"]).toEqual(kept(first).map((e) => [e]));
    expect(second!.teacher).toEqual(first!.teacher);
    const evaluation = await json<EvaluationFile>(runDirectory(), "evaluation.json");
    expect(evaluation.steps!.map(({ number, name }) => `${number} ${name}`)).toEqual([
      ...["1 aimer", "2 random", "3 calibrate", "4 rtn"],
    ]);
    const { description } = await openModel(teacher);
    expect(mappingOfMade(description, second!)["3"]).toEqual(kept(second).map((e) => [kept(first)[e]]));
    expect(evaluation.steps!.map(({ change }) => change?.gainInterval95.length)).toEqual([undefined, 2, 2, 2]);
    // The teacher once, and each checkpoint once, although the third step meets the second's again.
    expect(work.calls.filter((call) => call.startsWith("evaluate")).length).toBe(5);

    const report2 = await readFile(path.join(runDirectory(), "report.md"), "utf8");
    for (const name of ["1 aimer", "2 random", "3 calibrate", "4 rtn"]) expect(report2).toContain(name);
    const [listed] = (await listRuns(path.join(folder, "runs"))).filter(
      ({ directory }) => directory === runDirectory(),
    );
    expect(listed).toMatchObject({ state: "done", method: "aimer, random, calibrate, rtn" });
    const { points } = await tradeOffPanel(path.join(folder, "runs"));
    expect(points.map(({ label }) => label).filter((label) => label.includes("4 rtn"))).toHaveLength(1);

    work.calls = [];
    await start(recipe(chain));
    expect(work.calls).toEqual([]);
  });

  it("does a changed step and those behind it again, and keeps those before it", async () => {
    const steps = (keep: number) => [compress("aimer", 0.625), compress("random", keep), calibrate];
    await start(recipe(steps(0.6), { output: `first-${count}` }));
    work.calls = [];
    const run = await start(recipe(steps(0.8), { output: `second-${count}` }));
    expect(run.stages.every(({ state }) => state === "done")).toBe(true);
    expect(work.calls.filter((call) => call.startsWith("profile"))).toEqual([]);
    expect((await openModel(path.join(folder, `second-${count}`))).description.layers[0]!.feedForward).toMatchObject({
      numExperts: 4,
    });
  });

  it("goes on with the step that was interrupted", async () => {
    work.onStep = (step) => {
      if (step === "update 3") throw new Error("gone");
    };
    await expect(start(recipe(chain))).rejects.toThrow("gone");
    const [failed] = (await listRuns(path.join(folder, "runs"))).filter(
      ({ directory }) => directory === runDirectory(),
    );
    expect(failed).toMatchObject({ state: "failed", error: { message: "gone" } });
    work.onStep = () => undefined;
    work.calls = [];
    await start(recipe(chain));
    expect(work.calls.slice(0, 2)).toEqual(["update 3", "update 4"]);
  });
});

const refusals: [string, Step[], object, RegExp][] = [
  ["a first step that calibrates", [calibrate], {}, /first step calibrates/],
  ["steps beside compress", [calibrate], { compress: {} }, /beside compress or calibrate/],
  ["steps and a source", chain, { source: teacher }, /steps and a source/],
  [
    "neurons of codes",
    [compress("rtn", 1, { bits: 8, group: 64 }), compress("neurons", 0.75)],
    {},
    /^Step 2 \(neurons\): /,
  ],
  [
    "factors that are pruned",
    [compress("svd", 0.5, { output: "factored" }), compress("aimer", 0.5)],
    {},
    /^Step 2 \(aimer\): svd leaves factors/,
  ],
  [
    "a group that no longer fits",
    [compress("neurons", 0.75, { multiple: 16 }), compress("rtn", 1, { bits: 4, group: 128 })],
    {},
    /^Step 2 \(rtn\): .*128/s,
  ],
  ["fewer experts than a token needs", [compress("aimer", 0.5), compress("random", 0.25)], {}, /^Step 2 \(random\): /],
  [
    "experts trained in factors",
    [compress("svd", 0.5, { output: "factored" }), { calibrate: { scope: "router+experts" } }],
    {},
    /^Step 2 \(calibrate\): .*scope router/,
  ],
];
test.each(refusals)("refuses before any work: %s", async (_what, steps, change, message) => {
  const { refusals: found } = await preflight(recipe(steps, change), folder, { runDirectory: runDirectory() });
  expect(found.map((refusal) => refusal.message).join("\n")).toMatch(message);
});

test("a step does one thing", () => {
  for (const step of [{}, { ...calibrate, ...compress("aimer", 0.5) }])
    expect(() => recipe([step])).toThrow(/either compresses or calibrates/);
});
