import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { readDistillation } from "../../../../src/engine/run/folder/distillationFile";
import { readRun } from "../../../../src/engine/run/folder/runFolder";
import { comparisonRows, writeComparisonReport } from "../../../../src/engine/report/comparisonReport";
import { tradeOffPanel, listRuns } from "../../../../src/engine/report/panels";
import { readComparison, readComparisonRecipe } from "../../../../src/engine/run/compare/comparisonFolder";
import { forecastComparison } from "../../../../src/engine/run/compare/forecastComparison";
import { listComparisons } from "../../../../src/engine/run/compare/listComparisons";
import { startComparison, type ComparisonHooks } from "../../../../src/engine/run/compare/startComparison";
import { stageTable } from "../../../../src/engine/run/stages";
import { comparisonRecipeSchema } from "../../../../src/protocol/compare";
import { RerouteError } from "../../../../src/protocol/errors";
import { fakeWork, type FakeWork } from "../fakeWork";

const teacher = path.join(__dirname, "../../../fixtures/coarse");
let folder = "";
let count = 0;
let work: FakeWork;
let probes = 0;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "compare-"));
  const words = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(60);
  await writeFile(path.join(folder, "calibration.txt"), words);
  // A verdict needs 20 documents or sequences.
  const documents = Array.from({ length: 40 }, (_, i) => words.slice(i, i + 25).toUpperCase());
  await writeFile(path.join(folder, "evaluation.txt"), documents.join("\n\n"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  work = fakeWork();
  probes = 0;
  const { probe, calibrate } = work;
  work.probe = (p) => {
    probes += 1;
    return probe(p);
  };
  // Like the real one: targets of the text are in the state folder by the end of a calibration.
  work.calibrate = async (p) => {
    const file = path.join(p.stateDirectory, "teacher-targets-0123abcd.f32");
    if (await stat(file).catch(() => null)) work.calls.push("targets reused");
    else {
      await writeFile(file, "hidden states");
      await writeFile(`${file}.json`, "{}");
      work.calls.push("targets made");
    }
    return calibrate(p);
  };
  count += 1;
});

function recipe(change: object = {}) {
  return comparisonRecipeSchema.parse({
    schemaVersion: 1,
    teacher,
    data: {
      calibration: "calibration.txt",
      evaluation: "evaluation.txt",
      sequences: 4,
      evaluationSequences: 24,
      sequenceLength: 32,
    },
    grid: { methods: ["reap", "random"], keep: [0.625, 4] },
    calibrate: { heldOut: 0.25 },
    ...change,
  });
}

const directory = () => path.join(folder, "runs", `grid-${count}`);
function start(r = recipe(), hooks: Partial<ComparisonHooks> = {}) {
  const stages = stageTable(async (dir) => {
    await writeFile(path.join(dir, "report.html"), "<html>");
    await writeFile(path.join(dir, "report.md"), "#");
  });
  return startComparison(
    { stages, work },
    writeComparisonReport,
    { directory: directory(), recipe: r, baseFolder: folder, name: "grid" },
    { signal: new AbortController().signal, ...hooks },
  );
}
/** Refused before any work. */
const impossible = { methodOptions: { mobe: { magic: 1 } } };
const forecast = (of: ReturnType<typeof recipe>) =>
  forecastComparison(
    { stages: stageTable(() => Promise.resolve()), work },
    { directory: directory(), recipe: of, baseFolder: folder, name: "grid" },
    new AbortController().signal,
  );
const calls = (pattern: RegExp) => work.calls.filter((call) => pattern.test(call));

describe("a grid", () => {
  it("says of a merge that it loses to its own dominant experts, in the file and in both reports", async () => {
    const grid = recipe({ grid: { methods: ["random", "reap"], keep: [4] } });
    await start(grid);
    // What merging would have measured, which made-up work does not.
    const file = path.join(directory(), "cells/random-4/compressed/reroute.json");
    const provenance = JSON.parse(await readFile(file, "utf8")) as object;
    const metrics = { "layer.0.outputError": 0.5, "layer.0.dominantsError": 0.1, "layer.1.outputError": 0.2 };
    await writeFile(file, JSON.stringify({ ...provenance, metrics }));
    const comparison = await start(grid);
    const line = /^in 1 of 1 layers .* 0\.500 merged, 0\.100 alone/;
    expect(comparison.cells.map(({ lostToDropping }) => lostToDropping)).toEqual([
      expect.stringMatching(line),
      undefined,
    ]);
    for (const name of ["comparison.md", "comparison.html"]) {
      const text = await readFile(path.join(directory(), name), "utf8");
      expect(text).toMatch(/Merges that lose to their own dominant experts/);
      expect(text).toMatch(/random-4: in 1 of 1 layers/);
      expect(text).not.toMatch(/reap-4: in/);
    }
  });

  it("runs every cell, with one profile, one teacher, one measurement of the machine", async () => {
    const seen: string[] = [];
    const shares: (number | null)[] = [];
    // The share is one of time, which passes here by steps, not by how busy the machine is.
    let steps = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => 1000 * steps++);
    onTestFinished(() => clock.mockRestore());
    const comparison = await start(recipe(), {
      onCell: ({ id }, number, total, left) => seen.push(`${number}/${total} ${id} ${left === null ? "?" : "known"}`),
      report: ({ run }) => shares.push(run?.share ?? null),
    });
    const ids = ["reap-0.625", "random-0.625", "reap-4", "random-4"];
    expect(seen).toEqual(ids.map((id, i) => `${i + 1}/4 ${id} known`));
    // One share of the whole grid, over all its cells.
    expect(shares).toEqual([...shares].sort((a, b) => a! - b!));
    expect(shares).not.toContain(null);
    expect(shares.at(-1)).toBeGreaterThan(0.75);
    expect(comparison.cells.map(({ id, state, verdict }) => [id, state, verdict])).toEqual(
      ids.map((id) => [id, "done", "recovered"]),
    );
    const layers = new Set(calls(/^profile/)).size;
    expect(calls(/^profile/)).toHaveLength(layers);
    expect(layers).toBeGreaterThan(0);
    expect(calls(/^evaluate coarse/)).toHaveLength(1);
    expect(calls(/^evaluate compressed/)).toHaveLength(4);
    expect(calls(/^evaluate checkpoint/)).toHaveLength(4);
    expect(calls(/^targets/)).toEqual(["targets made", ...Array<string>(3).fill("targets reused")]);
    expect(probes).toBe(1);

    expect(await readComparison(directory())).toEqual(comparison);
    expect((await readdir(directory())).sort()).toEqual(
      ["cells", "comparison.csv", "comparison.html", "comparison.json", "comparison.md", "shared"].sort(),
    );
    expect((await readdir(path.join(directory(), "shared"))).filter((n) => n.startsWith("teacher-targets"))).toEqual(
      [],
    );
    for (const id of ids) {
      const files = await readdir(path.join(directory(), "cells", id));
      expect(files).toEqual(expect.arrayContaining(["run.json", "routing-statistics.safetensors", "evaluation.json"]));
      expect(files.filter((name) => name.startsWith("teacher-targets"))).toEqual([]);
    }
  });

  it("gives the numbers of evaluation.json in table and CSV", async () => {
    const comparison = await start();
    const file = path.join(directory(), "cells/reap-4/evaluation.json");
    const evaluation = JSON.parse(await readFile(file, "utf8")) as {
      before: { klToTeacher: number };
      comparison: { recoveredShare: number };
    };
    const cell = comparison.cells.find(({ id }) => id === "reap-4")!;
    expect(cell.recoveredShare).toBe(evaluation.comparison.recoveredShare);
    const row = comparisonRows(comparison).find(([method, keep]) => method === "reap" && keep === "4")!;
    expect(row[4]).toBe(`${cell.before!.klToTeacher!.mean.toFixed(4)} ± 0.0050`);
    expect(row[9]).toBe("recovered");
    const csv = (await readFile(path.join(directory(), "comparison.csv"), "utf8")).trimEnd().split("\r\n");
    expect(csv).toHaveLength(1 + 1 + 2 * 4);
    const columns = csv[0]!.split(",").length;
    for (const line of csv) expect(line.split(",")).toHaveLength(columns);
    expect(csv.find((line) => line.startsWith("reap-4,reap,4,before"))).toContain(
      String(cell.before!.klToTeacher!.mean),
    );
  });

  it("feeds the runs list and the trade-off panel, the teacher once", async () => {
    await start();
    const runs = path.join(folder, "runs");
    const names = (await listRuns(runs)).filter(({ directory: d }) => d.startsWith(directory())).map(({ id }) => id);
    expect(names.sort()).toEqual(["random-0.625", "random-4", "reap-0.625", "reap-4"]);
    const { points } = await tradeOffPanel(directory());
    expect(points.map(({ stage }) => stage).sort()).toEqual(
      ["teacher", ...Array<string>(4).fill("before"), ...Array<string>(4).fill("after")].sort(),
    );
  });

  it("takes pipelines as cells, beside methods", async () => {
    const grid = {
      ...{ methods: ["reap"], keep: [4] },
      pipelines: [
        {
          name: "Two prunings",
          steps: [{ compress: { method: "aimer", keep: 5 } }, { compress: { method: "random", keep: 4 } }],
        },
      ],
    };
    const comparison = await start(recipe({ grid }));
    const cells = comparison.cells.map(({ id, state, pipeline, method }) => [id, state, pipeline, method]);
    expect(cells).toEqual([
      ["reap-4", "done", undefined, "reap"],
      ["pipeline-two-prunings", "done", "Two prunings", null],
    ]);
    expect(comparison.cells[1]!.before!.bytes).toBe(comparison.cells[0]!.before!.bytes);
    expect(comparisonRows(comparison).map(([name]) => name)).toContain("Two prunings");
    expect(calls(/^evaluate coarse/)).toHaveLength(1);
  });

  it("takes ways of teaching one student as cells, a seed each, and says what each came to", async () => {
    const arms = [
      { name: "reverse", divergence: "reverse", seeds: [1, 2] },
      { name: "KA 4", divergence: "reverse", teacherRouting: { kind: "augment", draws: 4 }, seeds: [1, 2] },
      { name: "kd", learningRate: 1e-3 },
    ];
    const student = teacher;
    const asked = recipe({ student, grid: { arms }, seed: 7 });
    const comparison = await start(asked);
    expect(comparison.cells.map(({ id, state, arm, seed, method }) => [id, state, arm, seed, method])).toEqual([
      ["arm-reverse-1", "done", "reverse", 1, null],
      ["arm-reverse-2", "done", "reverse", 2, null],
      ["arm-ka-4-1", "done", "KA 4", 1, null],
      ["arm-ka-4-2", "done", "KA 4", 2, null],
      ["arm-kd-7", "done", "kd", 7, null],
    ]);
    const { arms: figure } = (await readDistillation(directory()))!;
    expect(figure!.baseline).toBe("reverse");
    expect(
      figure!.arms.map(({ name, routing, active, draws, seeds }) => [name, routing, active, draws, seeds]),
    ).toEqual([
      ["reverse", "own", 2, 1, [1, 2]],
      ["KA 4", "augment", 7, 4, [1, 2]],
      ["kd", "own", 2, 1, [7]],
    ]);
    // Made-up work measures the same of all; a seed that the baseline has not gives no difference.
    expect(figure!.arms.map(({ difference }) => difference)).toEqual([null, { mean: 0, interval95: [0, 0] }, null]);
    const { learningRate } = (await readRun(path.join(directory(), "cells/arm-kd-7"))).recipe.calibrate!;
    expect(learningRate).toBe(1e-3);
    expect(await readFile(path.join(directory(), "comparison.md"), "utf8")).toContain(
      "| KA 4 (2 seeds) | reverse, text",
    );
    expect(await readFile(path.join(directory(), "comparison.html"), "utf8")).toContain(
      "Students by how they were taught",
    );
    expect(await readFile(path.join(directory(), "distillation.csv"), "utf8")).toContain("KA 4,arm,1,");
    const names = comparisonRows(comparison).map(([name]) => name);
    expect(names.slice(2)).toEqual(["reverse, seed 1", "reverse, seed 2", "KA 4, seed 1", "KA 4, seed 2", "kd"]);
    const taught: object = { student, grid: { arms } };
    for (const [change, message] of [
      [{ student: undefined }, /arms teach a student/],
      [{ grid: { arms: [arms[0], arms[0]] } }, /each of another name/],
      [{ grid: { arms, baseline: "all" } }, /name of an arm/],
      [{ grid: recipe().grid, score: { data: "asked.jsonl" } }, /the grid has none/],
    ] as const)
      expect(() => recipe({ ...taught, ...change })).toThrow(message);
  });

  it("builds the student of its arms from one measurement", async () => {
    const arms = [{ name: "kd" }, { name: "reverse", divergence: "reverse" }];
    const calibrate = { heldOut: 0.25, scope: "all" };
    const asked = recipe({ student: { build: { experts: 3 } }, grid: { arms }, calibrate });
    const { cells } = await start(asked);
    expect(cells.map(({ state }) => state)).toEqual(["done", "done"]);
    expect(calls(/measure dense/)).toHaveLength(1);
    const weights = (id: string) => readFile(path.join(directory(), "cells", id, "compressed/model.safetensors"));
    expect((await weights("arm-kd-42")).equals(await weights("arm-reverse-42"))).toBe(true);
  });

  it("scores what its students answer, once, over the seeds of students and of sampling", async () => {
    const arms = [
      { name: "ka 1", teacherRouting: { kind: "augment", draws: 1 }, seeds: [1, 2] },
      { name: "ka 2", teacherRouting: { kind: "augment", draws: 2 } },
    ];
    const score = { data: "asked.jsonl", seeds: [3, 4], maxNewTokens: 3 };
    const asked = recipe({ student: teacher, grid: { arms }, score, memory: "1GiB" });
    // What is wrong with the instructions is said before anything runs.
    await writeFile(path.join(folder, "asked.jsonl"), JSON.stringify({ text: "no answer" }));
    await expect(start(asked)).rejects.toThrow(/line 1 of .* has a plain text/);
    expect(work.calls).toEqual([]);
    const rows = ["the dog", "a fox"].map((response) => JSON.stringify({ instruction: "jumps over", response }));
    await writeFile(path.join(folder, "asked.jsonl"), rows.join("\n"));
    // A step takes 10 ms and 1 ms a sequence: 3 tokens to one instruction (of two answers), twice, for each of three students.
    const [silent, answering] = [
      await forecast(recipe({ student: teacher, grid: { arms }, memory: "1GiB" })),
      await forecast(asked),
    ];
    expect(answering.seconds - silent.seconds).toBeCloseTo(3 * 2 * 3 * 0.011, 9);
    await start(asked);
    const scores = path.join(directory(), "cells/arm-ka-1-1/scores.json");
    const { bySeed } = JSON.parse(await readFile(scores, "utf8")) as { bySeed: { seed: number; rougeL: number }[] };
    expect(bySeed.map(({ seed }) => seed)).toEqual([3, 4]);
    const [first, second] = bySeed.map(({ rougeL }) => rougeL) as [number, number];
    // Made-up work teaches both seeds the same.
    const expected = { mean: (first + second) / 2, deviation: Math.abs(first - second) / 2 };
    const { arms: figure } = (await readDistillation(directory()))!;
    expect(figure!.arms.map(({ rougeL }) => rougeL)).toEqual(
      [4, 2].map((responses) => ({
        ...{ mean: expect.closeTo(expected.mean, 10) as number, responses },
        deviation: expect.closeTo(expected.deviation, 10) as number,
      })),
    );
    const { mtimeMs } = await stat(scores);
    await start(asked);
    expect((await stat(scores)).mtimeMs).toBe(mtimeMs);
    expect(await readFile(path.join(directory(), "comparison.md"), "utf8")).toMatch(/\| ROUGE-L +\|/);
  });

  it("refuses text that is trained on cell by cell; with force, the verdicts say so", async () => {
    const data = { ...recipe().data, evaluation: "calibration.txt" };
    const trained = recipe({ data, grid: { methods: ["random"], keep: [4] } });
    await expect(start(trained)).rejects.toMatchObject({ code: "data/trained-on" });
    const forced = await start(trained, { force: true });
    expect(forced.cells.map(({ state, trainedOn }) => [state, trainedOn])).toEqual([["done", 1]]);
  });

  it("without calibration measures compression alone", async () => {
    const { calibrate: _none, ...rest } = recipe();
    const comparison = await start(comparisonRecipeSchema.parse(rest));
    expect(comparison.cells.map(({ state, after, verdict }) => [state, after, verdict])).toEqual(
      Array(4).fill(["done", null, null]),
    );
    expect(comparison.cells[0]!.before!.klToTeacher!.mean).toBeGreaterThan(0);
  });
});

describe("looked at from outside", () => {
  const signal = new AbortController().signal;
  const mine = async () =>
    (await listComparisons(path.join(folder, "runs"))).find((found) => found.directory === directory());

  it("is listed with its state and how far it is", async () => {
    expect(await mine()).toBeUndefined();
    const states: (string | undefined)[] = [];
    const grid = recipe({ grid: { methods: ["mobe", "reap"], keep: [4] }, ...impossible });
    const abort = new AbortController();
    work.onStep = async (name) => {
      if (name !== "update 1") return;
      states.push((await mine())?.state);
      abort.abort();
      throw new RerouteError("cancelled", "cancelled");
    };
    await expect(start(grid, { signal: abort.signal })).rejects.toMatchObject({ code: "cancelled" });
    states.push((await mine())?.state);
    expect(states).toEqual(["running", "interrupted"]);
    work.onStep = () => undefined;
    await start(grid);
    expect(await mine()).toEqual({
      ...{ directory: directory(), name: "grid", tags: [], state: "failed" },
      ...{ cells: 2, done: 1, failed: 1 },
    });
  });

  it("is forecast cell by cell, with one teacher in the total, and nothing is written", async () => {
    const stages = stageTable(() => Promise.resolve());
    const grid = recipe({ grid: { methods: ["reap", "random", "mobe"], keep: [4] }, ...impossible });
    const request = { directory: directory(), recipe: grid, baseFolder: folder, name: "grid" };
    const { cells, seconds } = await forecastComparison({ stages, work }, request, signal);
    expect(cells[2]!.error?.message ?? cells[2]!.preflight!.refusals[0]!.message).toMatch(/its option magic:/);
    expect(cells.map(({ id, preflight, error }) => [id, error?.code ?? preflight?.refusals[0]?.code])).toEqual([
      ["reap-4", undefined],
      ["random-4", undefined],
      ["mobe-4", "arguments/invalid"],
    ]);
    expect(cells.map(({ preflight }) => preflight?.texts?.map(({ role }) => role))).toEqual([
      ["calibration", "evaluation"],
      undefined,
      undefined,
    ]);
    const [first, second] = cells.map(({ preflight }) => preflight!);
    const stage = (id: string) => first!.stages.find((one) => one.stage === id)!;
    const [profile, targets, evaluation] = ["profile", "calibrate", "evaluate"].map((id) => stage(id).teacherSeconds!);
    expect(profile).toBe(stage("profile").seconds);
    // Five training and held-out sequences of 32 tokens; 24 compared over the vocabulary.
    expect(targets).toBeCloseTo(0.1 + 0.01 + 5 * 32 * 0.001, 9);
    expect(evaluation).toBeCloseTo(0.1 + 0.01 + 24 * 32 * (0.001 + 0.5 / 5000), 9);
    expect(seconds).toBeCloseTo(first!.seconds + second!.seconds - profile! - targets! - evaluation!, 9);
    expect(probes).toBe(1);
    expect(await stat(directory()).catch(() => null)).toBeNull();
  });
});

describe("called again", () => {
  it("does nothing where everything is done", async () => {
    const first = await start();
    work.calls = [];
    expect(await start()).toEqual(first);
    expect(work.calls).toEqual([]);
  });

  it("goes on wherever it was stopped, and repeats no finished cell", async () => {
    const first = await start(recipe({ grid: { methods: ["reap", "random"], keep: [4] } }));
    const steps = [...work.calls].filter((call) => !call.startsWith("targets"));
    for (const at of [0, 8, steps.length - 1]) {
      count += 1;
      const all: string[] = [];
      const abort = new AbortController();
      let seen = 0;
      work.onStep = () => {
        if (seen++ === at) {
          abort.abort();
          throw new RerouteError("cancelled", "cancelled");
        }
      };
      const grid = recipe({ grid: { methods: ["reap", "random"], keep: [4] } });
      work.calls = [];
      await expect(start(grid, { signal: abort.signal })).rejects.toMatchObject({ code: "cancelled" });
      all.push(...work.calls);
      work.calls = [];
      work.onStep = () => undefined;
      const again = await start(grid);
      all.push(...work.calls);
      expect(again.cells.map(({ state, before, after }) => [state, before, after])).toEqual(
        first.cells.map(({ state, before, after }) => [state, before, after]),
      );
      expect(all.filter((call) => call.startsWith("update"))).toHaveLength(8);
      expect(all.filter((call) => call === "evaluate coarse")).toHaveLength(1);
    }
  });

  it("with one method more works that one off only", async () => {
    await start(recipe({ grid: { methods: ["reap"], keep: [4] } }));
    work.calls = [];
    const { cells } = await start(recipe({ grid: { methods: ["reap", "ean"], keep: [4] } }));
    expect(cells.map(({ id, state }) => `${id} ${state}`)).toEqual(["reap-4 done", "ean-4 done"]);
    expect(calls(/^profile|^evaluate coarse/)).toEqual([]);
    expect(calls(/^update/)).toHaveLength(4);
  });

  it("is refused while another process works in its folder", async () => {
    let inner: unknown;
    work.onStep = async (name) => {
      if (name === "update 1") inner ??= await start().catch((error: unknown) => error);
    };
    await start(recipe({ grid: { methods: ["reap"], keep: [4] } }));
    expect(inner).toMatchObject({ code: "run/locked" });
  });
});

describe("a cell that fails", () => {
  it("is recorded with its code; the others go on, and it is tried again", async () => {
    const failing = recipe({ grid: { methods: ["mobe", "reap"], keep: [4] }, ...impossible });
    const comparison = await start(failing);
    expect(comparison.cells.map(({ state, error }) => [state, error?.code])).toEqual([
      ["failed", "arguments/invalid"],
      ["done", undefined],
    ]);
    expect(comparisonRows(comparison).find(([method]) => method === "mobe")).toContain("failed: arguments/invalid");
    expect(await readFile(path.join(directory(), "comparison.html"), "utf8")).toContain("arguments/invalid");
    expect(await readFile(path.join(directory(), "comparison.csv"), "utf8")).toMatch(/^mobe-4,mobe,4,,failed,/m);

    let failures = 0;
    work.onStep = (name) => {
      if (name === "update 2" && failures++ === 0) throw new Error("out of luck");
    };
    count += 1;
    const broken = await start(recipe({ grid: { methods: ["reap", "random"], keep: [4] } }));
    expect(broken.cells.map(({ state, error }) => [state, error?.message])).toEqual([
      ["failed", "out of luck"],
      ["done", undefined],
    ]);
    const again = await start(recipe({ grid: { methods: ["reap", "random"], keep: [4] } }));
    expect(again.cells.every(({ state }) => state === "done")).toBe(true);
  });

  it("raises the first failure where every cell failed", async () => {
    await expect(start(recipe({ grid: { methods: ["mobe"], keep: [4, 5] }, ...impossible }))).rejects.toMatchObject({
      code: "arguments/invalid",
    });
    expect((await readComparison(directory())).cells.map(({ state }) => state)).toEqual(["failed", "failed"]);
  });
});

describe("a comparison file", () => {
  const rows: [string, unknown, RegExp][] = [
    ["that is no JSON", "{", /JSON/],
    ["without methods", { ...recipe(), grid: { methods: [], keep: [0.5] } }, /grid\.methods/],
    ["with a pipeline of nothing", { ...recipe(), grid: { pipelines: [{ name: "a", steps: [] }] } }, /grid\.pipelines/],
    ["with an unknown method", { ...recipe(), grid: { methods: ["magic"], keep: [0.5] } }, /grid\.methods\.0/],
    ["with a ratio of nothing", { ...recipe(), grid: { methods: ["reap"], keep: [0] } }, /grid\.keep\.0/],
    ["without held-out text", { ...recipe(), data: { calibration: "a" } }, /data\.evaluation/],
    ["with a typo", { ...recipe(), grd: 1 }, /grd/],
  ];
  it.each(rows)("%s is refused", async (_name, value, problem) => {
    const file = path.join(folder, "bad.compare.reroute.json");
    await writeFile(file, typeof value === "string" ? value : JSON.stringify(value));
    await expect(readComparisonRecipe(file)).rejects.toMatchObject({
      code: "recipe/invalid",
      message: expect.stringMatching(problem) as unknown,
    });
  });
});
