import { createHash } from "node:crypto";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { stageTable } from "../../../src/engine/run/stages";
import { buildSequences } from "../../../src/engine/data/buildSequences";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { readMetrics } from "../../../src/engine/run/folder/metricsFile";
import { readRun } from "../../../src/engine/run/folder/runFolder";
import { calibrationPanel, listRuns } from "../../../src/engine/report/panels";
import { stageColumns, stageRows } from "../../../src/engine/report/stageTable";
import { writeReport } from "../../../src/engine/report/writeReport";
import { openModel } from "../../../src/engine/run/modelCache";
import { resumeRun, startRun } from "../../../src/engine/run/startRun";
import { trainedOnBy } from "../../../src/engine/run/trainedOn";
import type { DenseStudentFile } from "../../../src/protocol/denseStudent";
import { RerouteError } from "../../../src/protocol/errors";
import type { EvaluationFile } from "../../../src/protocol/evaluation";
import type { Provenance } from "../../../src/protocol/provenance";
import { recipeSchema, type Recipe } from "../../../src/protocol/recipe";
import { fakeWork, type FakeWork } from "./fakeWork";
import { isNightly } from "../../support/nightly";

const teacher = path.join(__dirname, "../../fixtures/coarse");
let folder = "";
let count = 0;
let work: FakeWork;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "run-"));
  const words = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(60);
  await writeFile(path.join(folder, "calibration.txt"), words);
  // A verdict needs 20 documents or sequences.
  const documents = Array.from({ length: 40 }, (_, i) => words.slice(i, i + 25).toUpperCase());
  await writeFile(path.join(folder, "evaluation.txt"), documents.join("\n\n"));
  await writeFile(path.join(folder, "other.txt"), words.replaceAll("fox", "wolf"));
});
afterAll(() => rm(folder, { recursive: true }));
beforeEach(() => {
  work = fakeWork();
  count += 1;
});

function recipe(change: object = {}): Recipe {
  return recipeSchema.parse({
    schemaVersion: 1,
    teacher,
    data: {
      calibration: "calibration.txt",
      evaluation: "evaluation.txt",
      sequences: 4,
      evaluationSequences: 24,
      sequenceLength: 32,
    },
    compress: { method: "reap", keep: 0.625 },
    calibrate: { heldOut: 0.25 },
    output: `out-${count}`,
    ...change,
  });
}

const machinery = () => ({
  stages: stageTable(async (dir) => {
    await writeFile(path.join(dir, "report.html"), "<html>");
    await writeFile(path.join(dir, "report.md"), "#");
    work.calls.push("report");
  }),
  work,
});
const runDirectory = () => path.join(folder, `run-${count}`);
const start = (r = recipe(), signal = new AbortController().signal, extra: object = {}) =>
  startRun(machinery(), { runDirectory: runDirectory(), recipe: r, baseFolder: folder }, { signal, ...extra });

async function outputHash(): Promise<string> {
  const hash = createHash("sha256");
  const directory = path.join(folder, `out-${count}`);
  for (const name of (await readdir(directory)).sort()) {
    const text = await readFile(path.join(directory, name));
    // The output's own name is part of the recipe that reroute.json holds.
    hash.update(name).update(name === "reroute.json" ? text.toString().replaceAll(`out-${count}`, "out") : text);
  }
  return hash.digest("hex");
}
/** Bytes of what a run is for, by file; times in run.json, the log and the report are left out. */
async function results(): Promise<Record<string, string>> {
  const found: Record<string, string> = { output: await outputHash() };
  for (const name of (await readdir(runDirectory(), { recursive: true })).sort()) {
    if (!/safetensors$|plan|evaluation|compressed.|report|metrics/.test(name)) continue;
    found[name] = createHash("sha256")
      .update(await readFile(path.join(runDirectory(), name)))
      .digest("hex");
  }
  return found;
}
const afterProfile = [
  ...["update 1", "update 2", "update 3", "update 4", "write calibrated", "calibrated"],
  ...["evaluate coarse", "evaluate compressed"],
];

describe("a whole recipe", () => {
  it("does every stage once, and nothing when called again", async () => {
    const run = await start();
    expect(run.stages.map(({ id, state }) => `${id} ${state}`)).toEqual([
      "profile done",
      "compress done",
      "calibrate done",
      "evaluate done",
      "report done",
    ]);
    const layers = work.calls.filter((c) => c.startsWith("profile")).length;
    expect(work.calls.slice(layers)).toEqual([...afterProfile, `evaluate out-${count}`, "report"]);
    expect(run.preflight!.parametersAfter).toBeLessThan(run.preflight!.parametersBefore);
    expect(run.preflight!.seconds).toBeGreaterThan(0);
    expect(JSON.parse(await readFile(path.join(runDirectory(), "evaluation.json"), "utf8"))).toMatchObject({
      comparison: { verdict: "recovered" },
    });
    expect(await readdir(runDirectory())).not.toContain("lock.json");

    work.calls = [];
    expect((await start()).stages.every(({ state }) => state === "done")).toBe(true);
    expect(work.calls).toEqual([]);
  });

  it("builds the student that it teaches: measured once, written again where it is lost, measured anew for another", async () => {
    const built = (experts: number, change: object = {}) =>
      recipe({
        ...{ compress: undefined, calibrate: { heldOut: 0.25, scope: "all" }, student: { build: { experts } } },
        ...change,
      });
    const run = await start(built(3));
    expect(run.stages.map(({ state }) => state)).toEqual(["skipped", ...Array<string>(4).fill("done")]);
    const taught = [...afterProfile, `evaluate out-${count}`, "report"];
    expect(work.calls).toEqual(["measure dense", ...taught]);
    const file = path.join(runDirectory(), "dense-student.json");
    const { layers } = JSON.parse(await readFile(file, "utf8")) as DenseStudentFile;
    expect(Object.values(layers).map(({ experts }) => experts)).toEqual(Array(6).fill([0, 1, 2]));
    const student = path.join(runDirectory(), "compressed");
    const { description, checkpoint } = await openModel(student);
    expect([description.family, checkpoint.config["intermediate_size"]]).toEqual(["mistral", 3 * 192]);
    const size = [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(run.preflight!.bytesAfter).toBe(size);

    const before = await results();
    await rm(student, { recursive: true });
    work.calls = [];
    await start(built(3));
    expect([work.calls, await results()]).toEqual([["report"], before]);

    count += 1;
    await start(built(3, { calibrate: undefined }));
    expect((await openModel(path.join(folder, `out-${count}`))).description.family).toBe("mistral");
    await rm(path.join(folder, `out-${count}`), { recursive: true });
    work.calls = [];
    await start(built(2, { calibrate: undefined }));
    expect(work.calls).toEqual(["measure dense", "evaluate coarse", `evaluate out-${count}`, "report"]);
  });

  it("refuses evaluation text that was trained on; with force, the verdict says so wherever it is shown", async () => {
    const text = await readFile(path.join(folder, "calibration.txt"), "utf8");
    await writeFile(path.join(folder, "copy.txt"), text);
    const evaluatedOn = (evaluation: string) => recipe({ data: { ...recipe().data, evaluation } });
    for (const name of ["calibration.txt", "copy.txt"])
      await expect(start(evaluatedOn(name))).rejects.toMatchObject({ code: "data/trained-on" });
    const warnings: string[] = [];
    const hooks = { force: true, onWarning: (warning: string) => warnings.push(warning) };
    const machine = { ...machinery(), stages: stageTable(writeReport) };
    const request = { runDirectory: runDirectory(), recipe: evaluatedOn("copy.txt"), baseFolder: folder };
    await startRun(machine, request, { signal: new AbortController().signal, ...hooks });
    expect(warnings.join()).toMatch(
      /has the same content as the calibration text "[^"]*calibration\.txt"; the verdict will say so/,
    );
    const said = "100 % of the evaluation text was trained on, so this says nothing about new text";
    for (const report of ["report.html", "report.md"])
      expect(await readFile(path.join(runDirectory(), report), "utf8")).toContain(said);
    expect((await calibrationPanel(runDirectory()))!.verdict).toMatchObject({ trainedOn: 1 });
    const [listed] = (await listRuns(folder)).filter(({ directory }) => directory === runDirectory());
    expect(listed!.verdict).toBe("too little text on text that was trained on");
  });

  it("knows of a checkpoint what it was trained on: recorded beside it, or gone, or only in the recipe of an old one", async () => {
    await start();
    const calibrated = path.join(folder, `out-${count}`);
    const file = path.join(calibrated, "reroute.json");
    const written = JSON.parse(await readFile(file, "utf8")) as Provenance;
    const [trainedOn] = written.trainedOn!;
    expect(trainedOn).toMatchObject({ sequences: 5, sequenceLength: 32, packing: "packed" });
    expect(trainedOn).toMatchObject({ path: path.join(folder, "calibration.txt") });
    // Work here is made up, and so is what reroute.json says of it.
    const { fingerprint } = await openModel(teacher);
    const rest = { teacher: { path: teacher, fingerprint }, student: null, metrics: {} };
    const says = (change: object) => writeFile(file, JSON.stringify({ ...written, ...rest, ...change }));
    await says({});

    const { compress: _no, calibrate: _none, ...measured } = recipe({ student: calibrated, output: "no output" });
    const on = (evaluation: string, extra: object = {}) => {
      count += 1;
      return start(recipeSchema.parse({ ...measured, data: { ...measured.data, evaluation } }), undefined, extra);
    };
    const evaluation = path.join(folder, "evaluation.txt");
    const part = { path: evaluation, ...{ sequences: 24, sequenceLength: 32, packing: "packed" as const } };
    expect(await trainedOnBy(calibrated, part)).toMatchObject([{ found: { kind: "nothing" } }]);
    await expect(on("calibration.txt")).rejects.toMatchObject({
      code: "data/trained-on",
      message: expect.stringMatching(/calibration\.txt" is the calibration text itself/) as string,
    });
    await on("calibration.txt", { force: true });
    const { before, teacher: original } = JSON.parse(
      await readFile(path.join(runDirectory(), "evaluation.json"), "utf8"),
    ) as EvaluationFile;
    expect([before!.trainedOn, original!.trainedOn]).toEqual([1, undefined]);

    const gone = { ...trainedOn!, path: path.join(folder, "gone.txt") };
    await says({ trainedOn: [gone] });
    const warnings: string[] = [];
    await on("evaluation.txt", { onWarning: (warning: string) => warnings.push(warning) });
    expect(warnings.join()).toMatch(/gone\.txt" is not there any more: whether .* cannot be told/);
    await expect(on("calibration.txt")).rejects.toMatchObject({ code: "data/trained-on" });
    await says({ trainedOn: undefined });
    await expect(on("calibration.txt")).rejects.toMatchObject({ code: "data/trained-on" });
  });

  it("resumes to the same bytes wherever it was interrupted", async () => {
    await start();
    const expected = await outputHash();
    const steps = [...work.calls];
    // At each step of the fake work an interruption of two kinds; the next call must end the run.
    for (const [i, at] of steps.entries()) {
      if (at === "report" || !(isNightly || i % 3 === 0)) continue;
      count += 1;
      work = fakeWork();
      let seen = 0;
      const failure = i % 2 === 0 ? new RerouteError("cancelled", "cancelled") : new Error("power cut");
      work.onStep = () => {
        if (seen++ === i) throw failure;
      };
      await expect(start(), at).rejects.toBe(failure);
      const record = (await readRun(runDirectory())).stages.find(({ state }) => state !== "done")!;
      expect(record.state).toBe(i % 2 === 0 ? "cancelled" : "failed");
      await resumeRun(machinery(), runDirectory(), { signal: new AbortController().signal });
      expect(await outputHash(), at).toBe(expected);
      const updates = work.calls.filter((c) => c.startsWith("update"));
      expect(updates).toEqual(["update 1", "update 2", "update 3", "update 4"]);
    }
  });

  it("does again only what depends on a changed input, and says so", async () => {
    await start();
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    const data = { ...recipe().data, evaluationSequences: 6 };
    work.calls = [];
    await start(recipe({ data }), undefined, { onWarning });
    expect(work.calls).toEqual(["evaluate coarse", "evaluate compressed", `evaluate out-${count}`, "report"]);
    expect(warnings.join()).toMatch(/evaluate is done again: an input changed/);

    await writeFile(path.join(runDirectory(), "evaluation.json"), "damaged");
    await rm(path.join(runDirectory(), "evaluation.json"));
    work.calls = [];
    await start(recipe({ data }));
    expect(work.calls.length).toBe(4);
  });

  it.each([
    ["calibration", { calibrate: { heldOut: 0.25, learningRate: 1e-3 } }],
    ["compression", { compress: { method: "reap", keep: 0.75 } }],
    ["text", { data: { ...recipe().data, calibration: "other.txt" } }],
  ])(
    "never overwrites a finished output: a changed %s needs another folder, and is told so before any work",
    async (_name, change) => {
      await start();
      const before = [await outputHash(), await readFile(path.join(runDirectory(), "run.json"), "utf8")];
      work.calls = [];
      await expect(start(recipe(change))).rejects.toMatchObject({ code: "output/not-empty" });
      expect(work.calls).toEqual([]);
      expect([await outputHash(), await readFile(path.join(runDirectory(), "run.json"), "utf8")]).toEqual(before);
    },
  );

  const layers = Array.from({ length: 6 }, (_, layer) => `profile ${layer}`);
  const lost: [string, (string | RegExp)[]][] = [
    ["run/routing-statistics.safetensors", [...layers, "report"]],
    ["run/compression-plan.json", []],
    ["run/compressed", ["report"]],
    ["run/compressed/model.safetensors", ["report"]],
    ["run/compressed/config.json", ["report"]],
    ["run/evaluation.json", ["evaluate coarse", "evaluate compressed", "evaluate out", "report"]],
    ["run/report.md", ["report"]],
    ["run/log.jsonl", []],
    ["out", ["write calibrated", "calibrated", "report"]],
  ];
  it.each(lost)("makes %s again, which was deleted, and keeps what was made from the same", async (name, calls) => {
    await start();
    const before = await results();
    await rm(path.join(folder, name.replace(/^(run|out)/, `$1-${count}`)), { recursive: true });
    work.calls = [];
    const run = await start();
    expect(run.stages.map(({ state }) => state)).toEqual(Array(5).fill("done"));
    expect(work.calls.map((call) => call.replace(`out-${count}`, "out"))).toEqual(calls);
    expect(await results()).toEqual(before);
    work.calls = [];
    await start();
    expect(work.calls).toEqual([]);
  });

  it.each(["model.safetensors", "config.json"])(
    "refuses to go on without %s of a finished output before any work, since the rest of it may be somebody's",
    async (name) => {
      await start();
      await rm(path.join(folder, `out-${count}`, name));
      work.calls = [];
      await expect(start()).rejects.toMatchObject({
        code: "output/not-empty",
        message: expect.stringMatching(/no longer holds the whole checkpoint/) as string,
      });
      expect(work.calls).toEqual([]);
    },
  );

  it("tells before the teacher's pass that what was made again has come out otherwise than the finished output", async () => {
    await start();
    await rm(path.join(runDirectory(), "compressed"), { recursive: true });
    const plan = path.join(runDirectory(), "routing-statistics.safetensors");
    await rm(plan);
    // As other threads would do it, only more: other sums of the same inputs, and with them other experts that stay.
    const { profile } = work;
    work.profile = (p) =>
      profile({
        ...p,
        observer: {
          observe: (o) => p.observer.observe({ ...o, selectedIds: o.selectedIds.map((id) => o.numExperts - 1 - id) }),
        },
      });
    work.calls = [];
    await expect(start()).rejects.toMatchObject({ code: "output/not-empty" });
    expect(work.calls).toEqual(layers);
  });

  it("does again what was made from other tokens: another tokenizer.json is an input, a text that grows behind them is none", async () => {
    const own = path.join(folder, `teacher-${count}`);
    await cp(teacher, own, { recursive: true });
    const { compress: _none, calibrate: _alsoNone, ...rest } = recipe({ teacher: own });
    const profiling = recipeSchema.parse(rest);
    await start(profiling);
    const tokens = async () => {
      const { inputHash } = (await readRun(runDirectory())).stages[0]!;
      return inputHash;
    };
    const before = await tokens();
    const [done, calibration] = [[...work.calls], path.join(folder, "calibration.txt")];
    const text = await readFile(calibration, "utf8");
    try {
      await writeFile(calibration, `${text} and what nobody reads`);
      await start(profiling);
    } finally {
      await writeFile(calibration, text);
    }
    expect([work.calls, await tokens()]).toEqual([done, before]);

    const file = path.join(own, "tokenizer.json");
    const tokenizer = JSON.parse(await readFile(file, "utf8")) as { model: { vocab: Record<string, number> } };
    const { vocab } = tokenizer.model;
    const others = Object.keys(vocab).filter((token) => vocab[token] !== 0);
    const ids = others.map((token) => vocab[token]!);
    for (const [i, token] of others.entries()) vocab[token] = ids[(i + 1) % ids.length]!;
    await writeFile(file, JSON.stringify(tokenizer));
    const warnings: string[] = [];
    await start(profiling, undefined, { onWarning: (message: string) => warnings.push(message) });
    expect(work.calls).toEqual([...done, ...done]);
    expect(await tokens()).not.toBe(before);
    expect(warnings.join()).toMatch(/profile is done again: an input changed/);
  });

  it("keeps each update once in the metrics, however often it was repeated", async () => {
    let failures = 0;
    work.onStep = (name) => {
      if (name === "update 3" && failures++ === 0) throw new Error("stop");
    };
    await expect(start()).rejects.toThrow("stop");
    await resumeRun(machinery(), runDirectory(), { signal: new AbortController().signal });
    const lines = await readMetrics(path.join(runDirectory(), "metrics.jsonl"));
    expect(lines.flatMap((line) => (line.kind === "update" ? [line.step] : []))).toEqual([1, 2, 3, 4]);
  });

  it("works with the budget and threads it began with, until the recipe names others", async () => {
    const used: number[][] = [];
    const note = ({ runtime }: { runtime: { threads: number; memoryBudgetBytes: number } }) =>
      void used.push([runtime.threads, runtime.memoryBudgetBytes]);
    const watch = (fail: boolean) => {
      const evaluate = work.evaluate;
      work.evaluate = (p) => {
        note(p);
        return fail ? Promise.reject(new Error("stop")) : evaluate(p);
      };
    };
    watch(true);
    await expect(start()).rejects.toThrow("stop");
    const file = path.join(runDirectory(), "run.json");
    const run = JSON.parse(await readFile(file, "utf8")) as { runtime: object };
    expect(run.runtime).toEqual({ threads: used[0]![0], provider: "cpu", memoryBudgetBytes: used[0]![1] });
    // As if the run had begun on a machine that had more free.
    await writeFile(file, JSON.stringify({ ...run, runtime: { threads: 7, provider: "cpu", memoryBudgetBytes: 9e9 } }));
    await expect(resumeRun(machinery(), runDirectory(), { signal: new AbortController().signal })).rejects.toThrow();
    expect(used[1]).toEqual([7, 9e9]);
    await expect(start(recipe({ memory: "3GB", threads: 2 }))).rejects.toThrow("stop");
    expect(used[2]).toEqual([2, 3e9]);
  });

  it.each([false, true])(
    "with all work elsewhere (%s) neither measures this machine nor claims a time",
    async (elsewhere) => {
      let measured = 0;
      const { probe } = work;
      work.probe = (p) => (measured++, probe(p));
      const { signal } = new AbortController();
      const request = { runDirectory: runDirectory(), recipe: recipe({ calibrate: undefined }), baseFolder: folder };
      const run = await startRun({ ...machinery(), worksElsewhere: elsewhere }, request, { signal });
      const predicted = stageRows(run).map((row) => row[stageColumns.indexOf("Time predicted")]);
      expect([measured, run.preflight!.seconds > 0]).toEqual(elsewhere ? [0, false] : [1, true]);
      expect(predicted.every((time) => time === "–")).toBe(elsewhere);
    },
  );

  it("cancels between stages", async () => {
    const abort = new AbortController();
    work.onStep = (name) => {
      if (name === "update 2") abort.abort();
    };
    await expect(start(recipe(), abort.signal)).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("recipes in part", () => {
  it("held-out text is split off behind what is trained on", async () => {
    const { evaluation: _, ...data } = recipe().data;
    const warnings: string[] = [];
    const split = recipe({ data: { ...data, splitEvaluation: true, evaluationSequences: 3 } });
    const measured: number[][] = [];
    const evaluate = work.evaluate;
    work.evaluate = (p) => {
      measured.push([...p.sequences.ids]);
      return evaluate(p);
    };
    await start(split, undefined, { onWarning: (message: string) => warnings.push(message) });
    // Four to train on, one held out, one spare; the text is one document.
    const all = await buildSequences({
      ...{ path: path.join(folder, "calibration.txt"), tokenizer: await loadTokenizer(teacher), vocabSize: 2048 },
      ...{ sequences: 9, sequenceLength: 32, packing: "packed" },
    });
    expect(measured[0]).toEqual([...all.ids.subarray(6 * 32)]);
    expect(warnings.join()).toMatch(/split-off evaluation text begins inside a document/);
    const file = JSON.parse(await readFile(path.join(runDirectory(), "evaluation.json"), "utf8")) as EvaluationFile;
    expect(file.data.sequences).toBe(3);
    expect(file.comparison!.trainedOn).toBeUndefined();
  });

  it("compression alone writes the output itself", async () => {
    const { calibrate: _none, ...rest } = recipe({ compress: { method: "random", keep: 0.5 } });
    const run = await start(recipeSchema.parse(rest));
    expect(run.stages.find(({ id }) => id === "calibrate")!.state).toBe("skipped");
    expect(await readdir(path.join(folder, `out-${count}`))).toEqual(
      expect.arrayContaining(["model.safetensors", "reroute.json"]),
    );
    expect(await readdir(runDirectory())).not.toContain("compressed");
  });

  it("a student of another teacher is refused, and accepted with force", async () => {
    const { calibrate: _none, ...rest } = recipe({ compress: { method: "random", keep: 0.5 } });
    await start(recipeSchema.parse(rest));
    const student = path.join(folder, `out-${count}`);
    const provenance = JSON.parse(await readFile(path.join(student, "reroute.json"), "utf8")) as {
      teacher: { fingerprint: string };
    };
    provenance.teacher.fingerprint = "0".repeat(64);
    await writeFile(path.join(student, "reroute.json"), JSON.stringify(provenance));
    count += 1;
    const { compress: _alsoNone, ...calibrating } = recipe({ student });
    await expect(start(recipeSchema.parse(calibrating))).rejects.toMatchObject({ code: "teacher/mismatch" });
    expect((await start(recipeSchema.parse(calibrating), undefined, { force: true })).stages[0]!.state).toBe("skipped");
  });
});

describe("refused before work", () => {
  const splitOff = (more: object) => ({
    data: { calibration: "calibration.txt", splitEvaluation: true, sequenceLength: 32, ...more },
  });
  const rows: [string, object, string][] = [
    ["keep below top-k", { compress: { keep: 0.01 } }, "plan/invalid"],
    ["no student", { compress: undefined }, "recipe/invalid"],
    ["a missing text", { data: { calibration: "nothing.txt" } }, "data/not-found"],
    ["too little text", { data: { calibration: "calibration.txt", sequenceLength: 4096 } }, "data/too-few-tokens"],
    ["too little text to split off", splitOff({ sequences: 50 }), "data/too-few-tokens"],
    ["held-out text twice", splitOff({ evaluation: "evaluation.txt" }), "recipe/invalid"],
    ["a missing teacher", { teacher: "nowhere" }, "checkpoint/not-found"],
    ["an option of no method", { compress: { method: "mobe", options: { magic: 1 } } }, "arguments/invalid"],
    ["a tiny budget", { memory: "1MiB" }, "preflight/memory"],
    ["a missing plan", { compress: { plan: "nothing.json" } }, "plan/invalid"],
  ];
  it.each(rows)("%s", async (_name, change, code) => {
    await expect(start(recipe(change))).rejects.toMatchObject({ code });
    expect(work.calls).toEqual([]);
    expect(await readdir(folder)).not.toContain(`run-${count}`);
    expect(await readdir(folder)).not.toContain(`out-${count}`);
  });
});
