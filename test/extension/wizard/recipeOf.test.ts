import { describe, expect, it } from "vitest";
import { heldOutCount } from "../../../src/engine/data/heldOutSplit";
import { english } from "../../../src/protocol/translate";
import { preflightLines, startOf } from "../../../src/extension/wizard/preflightLines";
import { noVerdict, splitOff, type Answers, type Purpose } from "../../../src/extension/wizard/questions";
import { recipeOf, type RecipeSurroundings } from "../../../src/extension/wizard/recipeOf";
import { teacherFactor, teachingChoices } from "../../../src/extension/wizard/teachings";
import { distillationPresetNames } from "../../../src/protocol/presets";
import { compressOptions, recipeSchema } from "../../../src/protocol/recipe";
import { checkpoint, student } from "./checkpoints";
import { gib, preflight } from "./preflights";
import { distillationPresets } from "../../../src/protocol/presets";

const around: RecipeSurroundings = {
  output: "/models/qwen-out",
  name: "qwen reap",
  heldOutTokens: 256 * 10,
  memory: "8GiB",
  threads: 2,
  provider: "cpu",
};
const text: Answers = {
  text: "/data/calibration.jsonl",
  heldOut: "/data/evaluation.jsonl",
  amount: { sequences: 100, sequenceLength: 256 },
};
const make = (purpose: Purpose, answers: Answers, summary = checkpoint()) =>
  recipeOf({ purpose, checkpoint: summary }, { ...text, ...answers }, around);

describe("recipes made of answers", () => {
  it("a full model is profiled, compressed and calibrated", () => {
    const recipe = make("calibrate", { method: "ean", keep: 0.5 });
    expect(recipe).toMatchObject({
      teacher: "/models/qwen",
      data: {
        calibration: "/data/calibration.jsonl",
        evaluation: "/data/evaluation.jsonl",
        sequences: 100,
        sequenceLength: 256,
        evaluationSequences: 10,
      },
      compress: { method: "ean", keep: 0.5 },
      calibrate: { learningRate: 5e-5, batch: 8, temperature: 1 },
      output: "/models/qwen-out",
      memory: "8GiB",
      threads: 2,
    });
    expect(recipe.student).toBeUndefined();
    expect(recipeSchema.parse(recipe)).toEqual(recipe);
  });

  it("a student is calibrated against the teacher its provenance names", () => {
    const recipe = make("calibrate", {}, student);
    expect(recipe).toMatchObject({ teacher: "/models/teacher", student: "/models/qwen" });
    expect(recipe.compress).toBeUndefined();
    expect(recipe.calibrate).toBeDefined();
  });

  it("a smaller model learns by a preset, which the recipe holds expanded", () => {
    const recipe = make("distil", { student: "/models/small", studentIsDense: true, preset: "ka", ownSequences: 0.5 });
    expect(recipe).toMatchObject({
      ...{ teacher: "/models/qwen", student: "/models/small" },
      calibrate: {
        ...{ loss: "kd", divergence: "reverse", scope: "all", onPolicy: { share: 0.5 } },
        teacherRouting: { kind: "augment", lambda: 0.05, draws: 2 },
      },
    });
    expect(JSON.stringify(recipe)).not.toContain('"ka"');
    expect(recipeSchema.parse(recipe)).toEqual(recipe);
    // A student of the teacher's own trains its routers unless the preset says otherwise; what was built is named.
    const compressed = make("distil", { student: ":compress", method: "reap", keep: 0.5, preset: "kd" });
    expect(compressed).toMatchObject({
      compress: { keep: 0.5 },
      calibrate: { scope: "router", divergence: "forward" },
    });
    expect([compressed.student, compressed.calibrate!.onPolicy]).toEqual([undefined, undefined]);
    const built = make("distil", {
      student: ":build",
      studentIsDense: true,
      builtOf: 8,
      preset: "gkd",
      ownSequences: 1,
    });
    expect(built).toMatchObject({
      student: { build: { experts: 8, choose: "reap", scales: "fitted" } },
      calibrate: { scope: "all", onPolicy: { share: 1, promptTokens: 32, roundUpdates: 32 } },
    });
    expect(built.teacher).toBe("/models/qwen");
    expect(() => make("distil", {})).toThrow(RangeError);
  });

  it("says how often a preset does the teacher's work", () => {
    const factors = distillationPresetNames.map((preset) => teacherFactor(preset, checkpoint()));
    // 4 of 32 experts a token: 32 / 4, twice 31 / 4, and three times 32 / 4.
    expect(factors).toEqual([1, 1, 1, 1, 8, 15.5, 24]);
    const offered = teachingChoices(checkpoint(), true, english);
    expect(offered.map(({ value }) => value)).toEqual(["kd", "reverse", "gkd", "all", "ka", "sar"]);
    expect(offered.map(({ detail }) => detail ?? "").at(-2)).toContain("× 15.5");
  });

  it("options are those of the method that was chosen in the end", () => {
    const options = { method: "reap", chosen: { budget: "evoesap" } } as const;
    expect(make("compress", { method: "reap", keep: 0.5, options }).compress?.options).toEqual({ budget: "evoesap" });
    expect(make("compress", { method: "svd", keep: 0.5, options }).compress?.options).toEqual({});
    const advised = { method: "reap", keep: 0.625, options, recommended: true } as const;
    expect(make("compress", advised).compress?.options).toEqual({});
  });

  it("a student without provenance takes the chosen teacher", () => {
    const recipe = make("calibrate", { method: "none", teacher: "/models/full" });
    expect(recipe).toMatchObject({ teacher: "/models/full", student: "/models/qwen" });
    expect(recipe.compress).toBeUndefined();
  });

  it("small models get a learning rate that moves them", () => {
    const small = make("calibrate", { method: "reap", keep: 0.5 }, checkpoint({ parametersTotal: 4e6 }));
    expect(small.calibrate?.learningRate).toBe(1e-3);
  });

  it.each<[string, number, object]>([
    ["much text: the published amount", 4000, { sequences: 3839, evaluationSequences: 96 }],
    ["some text: a tenth, for a verdict at least 20", 200, { sequences: 162, evaluationSequences: 20 }],
    ["little text: a third at most", 9, { sequences: 4, evaluationSequences: 3 }],
  ])("held-out text that is split off, of %s", (_name, all, data) => {
    const answers = { method: "reap", keep: 0.5, heldOut: splitOff } as const;
    const recipe = make("calibrate", { ...answers, amount: { sequences: all, sequenceLength: 256 } });
    expect(recipe.data).toMatchObject({ splitEvaluation: true, ...data });
    expect(recipe.data.evaluation).toBeUndefined();
    const { sequences, evaluationSequences } = recipe.data;
    const { heldOut, maxHeldOut } = recipe.calibrate!;
    const before = sequences + 2 * heldOutCount(sequences, heldOut, maxHeldOut);
    if (all > 20) expect(before + evaluationSequences).toBeLessThanOrEqual(all);
    expect(before).toBeLessThan(all);
  });

  it("without held-out text nothing is measured", () => {
    const { data } = make("calibrate", { method: "reap", keep: 0.5, heldOut: noVerdict });
    expect(data.evaluation ?? data.splitEvaluation).toBeUndefined();
  });

  it.each<[Purpose, Answers, { compress: boolean; student: boolean; evaluation: string | undefined }]>([
    [
      "compress",
      { method: "reap", keep: 16 },
      { compress: true, student: false, evaluation: "/data/evaluation.jsonl" },
    ],
    ["profile", {}, { compress: false, student: false, evaluation: undefined }],
    ["evaluate", {}, { compress: false, student: false, evaluation: "/data/calibration.jsonl" }],
    ["compare", { teacher: "/models/b" }, { compress: false, student: true, evaluation: "/data/calibration.jsonl" }],
  ])("%s calibrates nothing", (purpose, answers, expected) => {
    const recipe = make(purpose, answers);
    expect(recipe.calibrate).toBeUndefined();
    expect(recipe.compress !== undefined).toBe(expected.compress);
    expect(recipe.student !== undefined).toBe(expected.student);
    expect(recipe.data.evaluation).toBe(expected.evaluation);
  });
});

it.each([
  [{ method: "gptq", options: { allocate: "loss" } }, "gptq, allocate=loss"],
  [{ method: "svd", keep: 0.5, options: { output: "factored" } }, "svd, 50 % of every expert, output=factored"],
])("the summary names the method's options: %j", (compress, line) => {
  const recipe = { ...make("compress", { method: "reap", keep: 0.5 }), compress: compressOptions.parse(compress) };
  expect(preflightLines(preflight(), recipe, english)[0]?.description).toBe(line);
});

it("the pre-flight says size, time, memory, disk, warnings and refusals", () => {
  const said = preflight({
    diskFreeBytes: gib,
    stages: [{ stage: "profile", seconds: 3600, peakMemoryBytes: 0, assumption: "" }],
    trained: { scope: "router", parameters: 7.9e6, tensors: ["model.layers.{0-47}.mlp.gate.weight"] },
    refusals: [{ code: "preflight/disk", message: "39 GiB are missing" }],
    warnings: ["the texts are short"],
  });
  const recipe = make("calibrate", { method: "reap", keep: 0.625 });
  const lines = preflightLines(said, recipe, english).map(
    ({ kind, label, description }) => `${kind} ${label}: ${description}`,
  );
  expect(lines).toEqual([
    "fact Method: reap, keeping 62.5 % of each layer's experts",
    "fact Loaders: loads in transformers",
    "fact Checkpoint: /models/qwen",
    "fact Text: /data/calibration.jsonl · 100 sequences of 256 tokens",
    "fact Held-out text: /data/evaluation.jsonl · 10 sequences of 256 tokens",
    "fact Calibration: learning rate 0.00005, 8 sequences an update, loss kd",
    "fact Output: /models/qwen-out",
    "fact Size: 30.0 B to 19.0 B parameters, 60.0 GiB to 38.0 GiB",
    "fact Time: about 1 h 10 min",
    "fact Memory: peak 6.00 GiB of a budget of 8.00 GiB",
    "fact Disk: 40.0 GiB needed, 1.00 GiB free",
    "fact Trains: 7.90 M parameters, scope router: model.layers.{0-47}.mlp.gate.weight",
    "warning Warning: the texts are short",
    "refusal Cannot start: 39 GiB are missing (preflight/disk)",
  ]);
  const { evaluation: _, ...data } = recipe.data;
  expect(
    preflightLines(said, { ...recipe, data }, english)
      .map(({ description }) => description)
      .join(),
  ).toContain("No held-out text");
});

it.each([
  ["kd", null],
  ["reverse", "divergence reverse"],
  ["gkd", "divergence reverse, 100 % of the sequences written by the student"],
  ["all", "divergence reverse, all experts of the teacher active"],
  ["ka", "divergence reverse, all but one experts of the teacher active, in 2 draws"],
  ["sar", "divergence reverse, all experts of the teacher active, its router copies trained with the student"],
] as const)("a student that is taught by %s is said to be", (name, said) => {
  const recipe = make("calibrate", { method: "reap", keep: 0.625 });
  const calibrate = { ...recipe.calibrate!, ...distillationPresets[name] };
  const lines = preflightLines(preflight({}), { ...recipe, calibrate }, english);
  expect(lines.find(({ label }) => label === "Teaching")?.description ?? null).toBe(said);
});

it.each<[string[], "start" | "force" | null]>([
  [[], "start"],
  [["data/trained-on"], "force"],
  [["data/trained-on", "preflight/disk"], null],
  [["preflight/disk"], null],
])("after refusals %j a run may be started: %s", (codes, how) => {
  const refusals = codes.map((code) => ({ code, message: "no" }));
  const recipe = make("calibrate", { method: "reap", keep: 0.625 });
  expect(startOf(preflightLines(preflight({ refusals }), recipe, english))).toBe(how);
});
