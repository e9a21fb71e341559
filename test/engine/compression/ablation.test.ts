import path from "node:path";
import { describe, expect, it } from "vitest";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { copyTensor } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
import { measureLayers } from "../../../src/engine/compression/ablation/modelEffects";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { expertMapping } from "../../../src/engine/compression/plan/expertMapping";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { prunedRouter } from "../../../src/engine/compression/routers/routerPruning";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import { evaluateCheckpoint } from "../../../src/engine/evaluation/evaluate";
import type { PruningPlan } from "../../../src/protocol/plan";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import type { CompressOptions } from "../../../src/protocol/recipe";
import {
  compress,
  goldens,
  makeContext,
  openModel,
  randomSequences,
  runtime,
  scratch,
  type OpenModel,
} from "./support";

const { fresh } = scratch();
const golden = (family: string) => openModel(path.join(goldens, family, "checkpoint"));
const contextOf = (on: OpenModel, options: Partial<CompressOptions>) =>
  makeContext(on, fresh(), { keep: 0.75, ...options }, randomSequences(on, 2, 16));

/** A model of the golden's first layer alone, so that dropping one of its experts is a checkpoint like any other. */
async function oneLayer(family: string): Promise<OpenModel> {
  const { checkpoint } = await golden(family);
  const tensors = [...checkpoint.tensors.values()].filter(({ name }) => !/layers\.[1-9]/.test(name));
  const directory = fresh();
  const config = { ...checkpoint.config, num_hidden_layers: 1 };
  await writeCheckpoint({ directory, tensors: tensors.map((entry) => copyTensor(entry)), config });
  return openModel(directory);
}

describe("ablation", () => {
  it.each(["qwen3_moe", "minimax_m2"])("%s: the effect is that of a checkpoint without the expert", async (family) => {
    const model = await oneLayer(family);
    const context = await contextOf(model, { method: "ablation" });
    const sequences = context.sequences!;
    const { moe } = moeLayers(model.description)[0]!;
    const own = await readFloat32(model.checkpoint.tensors.get(moe.router.weight.tensor)!);
    const effects: number[] = [];
    await measureLayers(context, sequences, async (_layer, _moe, measure) => {
      for (const expert of [0, 3]) effects.push((await measure({ withoutExpert: expert })).kl);
      // As it was again: no change.
      const { kl, loss } = await measure({ router: own });
      expect(Math.abs(kl) + Math.abs(loss)).toBeLessThan(1e-6);
    });
    for (const [i, expert] of [0, 3].entries()) {
      const kept = moe.experts.flatMap((_, e) => (e === expert ? [] : [e]));
      const plan: PruningPlan = { schemaVersion: 1, paradigm: "pruning", method: "manual", layers: { "0": { kept } } };
      const student = await compress(context, plan, fresh());
      const { klToTeacher } = await evaluateCheckpoint({
        ...{ model: student, teacher: model, sequences, runtime, scratchDirectory: fresh(), residentBytes: () => 0 },
        expertMapping: expertMapping(model.description, plan),
      });
      expect(effects[i]).toBeGreaterThan(0);
      expect(effects[i]! / klToTeacher!).toBeCloseTo(1, 3);
    }
  });

  it("layers are measured from the first on; an interrupted one goes on to the same plan", async () => {
    const model = await golden("qwen3_moe");
    const context = await contextOf(model, { method: "ablation", options: { sequences: 2 } });
    const plan = (await makePlan(context)) as PruningPlan;
    const layers = moeLayers(model.description);
    expect(Object.keys(plan.layers)).toEqual(layers.map(({ layer }) => String(layer)));
    for (const { kept, scores } of Object.values(plan.layers)) {
      const worst = Math.min(...kept.map((e) => scores![e]!));
      scores!.forEach((score, e) => kept.includes(e) || expect(score!).toBeLessThanOrEqual(worst));
    }
    expect(await makePlan(context)).toEqual(plan);
    const anew = await contextOf(model, { method: "ablation", options: { sequences: 2 } });
    expect(await makePlan(anew)).toEqual(plan);
  });

  it("the loss may fall without an expert, and the notes say so", async () => {
    const context = await contextOf(await golden("qwen3_moe"), { method: "ablation", options: { effect: "loss" } });
    const plan = (await makePlan(context)) as PruningPlan;
    const negative = Object.values(plan.layers).flatMap(({ scores }) => scores!.filter((score) => score! < 0));
    expect(negative.length).toBeGreaterThan(0);
    expect(plan.notes!.join("\n")).toMatch(/the loss is lower: \d+ \(-/);
  });

  it("locally, with and without interactions", async () => {
    const model = await golden("qwen3_moe");
    for (const interactions of ["none", "greedy"]) {
      const context = await contextOf(model, { method: "ablation", options: { effect: "local", interactions } });
      const plan = (await makePlan(context)) as PruningPlan;
      for (const { scores } of Object.values(plan.layers))
        expect(Math.min(...scores!.map(Number))).toBeGreaterThanOrEqual(0);
      await compress(context, plan, fresh());
    }
    const context = await contextOf(model, { method: "ablation", options: { interactions: "greedy" } });
    await expect(makePlan(context)).rejects.toMatchObject({ code: "arguments/invalid" });
  });
});

describe("router pruning", () => {
  it.each<[string, number[] | null, number[]]>([
    ["router-columns", [1, 1], [0, -2, 0, 0.5]],
    ["router-columns", [1, 0.1], [1, 0, 3, 0]],
    ["router-weights", null, [0, -2, 3, 0]],
    ["router-weights", [1, 0.01], [1, 0, 3, 0]],
  ])("%s with mean squares %j, by hand", (method, squares, expected) => {
    const router = method === "router-columns" && squares![1] === 1 ? [1, -2, 1, 0.5] : [1, -2, 3, 0.5];
    const result = prunedRouter(method, Float32Array.from(router), squares && Float64Array.from(squares), 2, 0.5);
    expect([...result]).toEqual(expected);
  });

  it("a table for every layer, the zeros asked for, which Router KD leaves zero", async () => {
    const model = await golden("qwen3_moe");
    const context = await contextOf(model, { method: "router-columns", keep: 0.5, options: { sequences: 2 } });
    const plan = await makePlan(context);
    expect(plan.notes!.join()).toMatch(/saves nothing worth having/);
    const layers = (await applyPlan(context, plan))!;
    for (const { metrics, notes } of layers.values()) {
      expect(metrics["exactSet"]).toBeLessThanOrEqual(metrics["topKOverlap"]!);
      expect(metrics["routingKl"]).toBeGreaterThan(0);
      expect(metrics["vocabularyKl"]).toBeGreaterThan(0);
      expect(notes.at(-1)).toMatch(/top-k overlap .* %, the same set/);
    }
    const student = await compress(context, plan, fresh());
    const { weight } = moeLayers(student.description)[0]!.moe.router;
    const before = await readFloat32(student.checkpoint.tensors.get(weight.tensor)!);
    expect(before.filter((w) => w === 0)).toHaveLength(before.length / 2);
    const { parameters } = await calibrate({
      ...{ student, teacher: model, training: context.sequences!, heldOut: null, seed: 1, runtime },
      stateDirectory: fresh(),
      options: calibrateOptions.parse({ learningRate: 1e-2, batch: 1 }),
      onMetrics: () => undefined,
    });
    const after = parameters.get(weight.tensor)!;
    expect(after.map((w) => (w === 0 ? 1 : 0))).toEqual(before.map((w) => (w === 0 ? 1 : 0)));
    expect(after).not.toEqual(before);
  });

  it("rounding: what is stored is on the grid, and fewer bits change more", async () => {
    const model = await golden("qwen3_moe");
    const of = async (bits: number) => {
      const context = await contextOf(model, {
        method: "router-rtn",
        options: { bits, group: 16, sequences: 2, effectSequences: 2 },
      });
      const plan = await makePlan(context);
      const layers = (await applyPlan(context, plan))!;
      const student = await compress(context, plan, fresh());
      expect(student.checkpoint.config).toEqual(model.checkpoint.config);
      const { weight } = moeLayers(student.description)[0]!.moe.router;
      const values = await readFloat32(student.checkpoint.tensors.get(weight.tensor)!);
      expect(new Set(values.subarray(0, 16)).size).toBeLessThanOrEqual(2 ** bits);
      return [...layers.values()].map(({ metrics }) => metrics["routingKl"]!).reduce((sum, kl) => sum + kl, 0);
    };
    const [eight, six, four] = [await of(8), await of(6), await of(4)];
    expect(eight).toBeGreaterThan(0);
    expect(six).toBeGreaterThan(2 * eight);
    expect(four).toBeGreaterThan(2 * six);
    const context = await contextOf(model, { method: "router-rtn", options: { group: 24 } });
    await expect(makePlan(context)).rejects.toMatchObject({ code: "model/unsupported-option" });
  });
});
