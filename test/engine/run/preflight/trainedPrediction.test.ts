import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { trainableWeights } from "../../../../src/engine/distillation/scope";
import { trainedNames } from "../../../../src/engine/distillation/trainedNames";
import { preflight } from "../../../../src/engine/run/preflight/preflight";
import { calibrateStage } from "../../../../src/engine/run/stages/calibrate";
import { smallestMemory } from "../../../../src/engine/run/preflight/estimates";
import { readProvenance } from "../../../../src/engine/run/stages/outputs";
import { predictTrained } from "../../../../src/engine/distillation/trainedPrediction";
import { elementCount } from "../../../../src/engine/tensor/dtype";
import { calibrationScopes, type CalibrateOptions } from "../../../../src/protocol/calibrateOptions";
import { recipeSchema, type Recipe } from "../../../../src/protocol/recipe";
import { goldenCase } from "../../../support/goldens";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { openModel, writeStudentOf } from "../../../support/tinyModels";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "trained-"));
  await writeFile(path.join(folder, "text.txt"), "the quick brown fox jumps over the lazy dog ".repeat(400));
});
afterAll(() => rm(folder, { recursive: true }));

function recipeOf(calibrate: Partial<CalibrateOptions>, change: object = {}): Recipe {
  return recipeSchema.parse({
    schemaVersion: 1,
    teacher: path.resolve("test/fixtures/coarse"),
    data: { calibration: "text.txt", sequences: 8, sequenceLength: 32 },
    compress: { method: "reap", keep: 0.625 },
    calibrate,
    output: "out",
    ...change,
  });
}

describe.each(["olmoe", "gpt_oss", "deepseek_v3"])("%s", (name) => {
  test.each(calibrationScopes.filter((scope) => scope !== "router+scales"))(
    "what scope %s will train is what it then trains",
    async (scope) => {
      const teacher = await openModel(goldenCase(name).checkpoint);
      const student = await writeStudentOf(goldenCase(name), path.join(temporaryFolder(), "student"));
      const plan = (await readProvenance(student.checkpoint.directory))!.plan;
      const recipe = recipeOf({ scope, topExperts: 2 });
      const predicted = predictTrained(recipe, teacher.description, null, plan)!;
      const some = new Map(student.description.layers.map(({ index }) => [index, [1, 3]]));
      const weights = trainableWeights(student.description, scope, some);
      expect(predicted.parameters).toBe(weights.reduce((sum, { view }) => sum + elementCount(view.shape), 0));
      const named = scope === "router+top-experts" ? trainableWeights(student.description, "router+experts") : weights;
      expect(predicted.tensors).toEqual(trainedNames(named, student.description));
      expect(predictTrained(recipe, teacher.description, student.description, null)).toEqual(predicted);
    },
  );
});

test("keep instead of a plan gives as many experts", async () => {
  const { description } = await openModel(goldenCase("olmoe").checkpoint);
  const parameters = (compress: object) =>
    predictTrained(recipeOf({ scope: "router+experts" }, { compress }), description, null, null)!.parameters;
  // 3 layers of width 32; an expert has three projections of 24 rows.
  const of = (experts: number, rows: number) => 3 * (experts * 3 * 32 * 24 + rows * 32);
  expect(parameters({ method: "reap", keep: 0.625 })).toBe(of(5, 5));
  expect(parameters({ method: "hc-smoe", keep: 4, options: { router: "map" } })).toBe(of(4, 8));
  expect(parameters({ method: "svd", keep: 0.5 })).toBe(of(8, 8));
});

test("scales that quantisation will write are counted before it has", async () => {
  const { description } = await openModel(goldenCase("qwen3_moe").checkpoint);
  const compress = { method: "rtn", options: { bits: 4, group: 8 } };
  const of = (change: object) => predictTrained(recipeOf({ scope: "router+scales" }, change), description, null, null)!;
  const predicted = of({ compress });
  // 3 layers of 8 experts, width 32, 24 units: a scale for 8 inputs of each row.
  const scales = 3 * 8 * ((2 * 24 * 32) / 8 + (32 * 24) / 8);
  expect(predicted.parameters).toBe(scales + 3 * 8 * 32);
  expect(predicted.tensors).toContain("model.layers.{0-2}.mlp.experts.{0-7}.down_proj.weight_scale");
  expect(() => of({})).toThrow("Quantise it first");
});

describe("memory", () => {
  test("grows by at least six float32 copies of what trains", async () => {
    const { description } = await openModel(path.resolve("test/fixtures/coarse"));
    const at = (calibrate: Partial<CalibrateOptions>) => {
      const recipe = recipeOf(calibrate);
      const trained = predictTrained(recipe, description, null, null)!;
      return { trained, smallest: smallestMemory(recipe, description, trained) };
    };
    const [router, experts, all] = [at({}), at({ scope: "router+experts" }), at({ scope: "all" })];
    expect(router.smallest).toBe(smallestMemory(recipeOf({}), description));
    const more = 24 * (experts.trained.parameters - router.trained.parameters);
    expect(experts.smallest - router.smallest).toBeGreaterThan(0.99 * more);
    expect(experts.smallest - router.smallest).toBeLessThan(2 * more);
    expect(all.smallest).toBeGreaterThan(experts.smallest);
  });

  test("disk counts router logits where they are matched, the state of wider scopes, and no teacher for lm", async () => {
    const { description } = await openModel(path.resolve("test/fixtures/coarse"));
    const bytes = (calibrate: Partial<CalibrateOptions>) => {
      const recipe = recipeOf({ heldOut: 0, ...calibrate });
      const trained = predictTrained(recipe, description, null, null)!;
      const input = { recipe, teacher: description, memoryBudgetBytes: 8e9, trained };
      return { trained, bytes: calibrateStage.scratch(input).kept };
    };
    const tokens = 8 * 32;
    const kd = bytes({});
    expect(kd.bytes).toBe(tokens * description.hiddenSize * 4);
    expect(bytes({ loss: "lm" }).bytes).toBe(0);
    const matched = bytes({ loss: "router-logits" });
    expect(matched.bytes - kd.bytes).toBe(tokens * matched.trained.routerLogits * 4);
    const all = bytes({ scope: "all" });
    expect(all.bytes - kd.bytes).toBe(2 * 16 * all.trained.parameters);
  });
});

describe("the pre-flight", () => {
  const of = (calibrate: Partial<CalibrateOptions>, change: object = {}) =>
    preflight(recipeOf(calibrate, change), folder, { runDirectory: path.join(folder, "run") });

  test("names what would change", async () => {
    const { trained, refusals } = await of({ scope: "router+experts", loss: "lm" });
    expect(refusals).toEqual([]);
    expect(trained!.scope).toBe("router+experts");
    expect(trained!.tensors[0]).toMatch(/^model\.layers\.\{0-\d+\}\..*gate\.weight$/);
    expect(trained!.tensors.some((name) => /experts\.\{0-\d+\}\./.test(name))).toBe(true);
  });

  test("refuses a budget that training does not fit in, with the one that works", async () => {
    const recipe = recipeOf({ scope: "all" });
    const { description } = await openModel(recipe.teacher);
    const smallest = smallestMemory(recipe, description, predictTrained(recipe, description, null, null));
    const memory = `${Math.floor(smallest / 2 ** 20) - 1}MiB`;
    const { refusals } = await of({ scope: "all" }, { memory });
    expect(refusals.map(({ code }) => code)).toEqual(["preflight/memory"]);
    expect(refusals[0]!.message).toContain("scope all");
    expect(refusals[0]!.message).toContain(`--memory ${Math.ceil(smallest / 2 ** 20)}MiB`);
    expect((await of({ scope: "all" }, { memory: `${Math.ceil(smallest / 2 ** 20)}MiB` })).refusals).toEqual([]);
    expect((await of({}, { memory })).refusals).toEqual([]);
  });

  test("refuses factored students of scopes that change experts", async () => {
    const compress = { method: "svd", keep: 0.5, options: { output: "factored" } };
    const { refusals } = await of({ scope: "router+experts" }, { compress });
    expect(refusals.map(({ code }) => code)).toEqual(["model/unsupported-option"]);
    expect((await of({}, { compress })).refusals).toEqual([]);
  });
});
