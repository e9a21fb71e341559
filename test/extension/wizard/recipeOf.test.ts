import { describe, expect, it } from "vitest";
import { english } from "../../../src/extension/translate";
import { preflightLines } from "../../../src/extension/wizard/preflightLines";
import type { Answers, Purpose } from "../../../src/extension/wizard/questions";
import { recipeOf, type RecipeSurroundings } from "../../../src/extension/wizard/recipeOf";
import { recipeSchema } from "../../../src/protocol/recipe";
import { checkpoint, student } from "./checkpoints";
import { gib, preflight } from "./preflights";

const around: RecipeSurroundings = {
  output: "/models/qwen-out",
  name: "qwen reap",
  evaluationText: { path: "/data/evaluation.jsonl", bytes: 5 * 256 * 10 },
  memory: "8GiB",
  threads: 2,
  provider: "cpu",
};
const text: Answers = { text: "/data/calibration.jsonl", amount: { sequences: 100, sequenceLength: 256 } };
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

  it("a student without provenance takes the chosen teacher", () => {
    const recipe = make("calibrate", { method: "none", teacher: "/models/full" });
    expect(recipe).toMatchObject({ teacher: "/models/full", student: "/models/qwen" });
    expect(recipe.compress).toBeUndefined();
  });

  it("small models get a learning rate that moves them", () => {
    const small = make("calibrate", { method: "reap", keep: 0.5 }, checkpoint({ parametersTotal: 4e6 }));
    expect(small.calibrate?.learningRate).toBe(1e-3);
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
    "fact Size: 30.0 B to 19.0 B parameters, 60.0 GiB to 38.0 GiB",
    "fact Time: about 1 h 10 min · profile 1 h",
    "fact Memory: peak 6.00 GiB of a budget of 8.00 GiB",
    "fact Disk: 40.0 GiB needed, 1.00 GiB free",
    "fact Trains: 7.90 M numbers, scope router: model.layers.{0-47}.mlp.gate.weight",
    "fact Output: /models/qwen-out",
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
