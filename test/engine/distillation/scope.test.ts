import { describe, expect, test } from "vitest";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { gatherNumbers, trainedNames } from "../../../src/engine/distillation/trainedNames";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { ModelDescription, WeightView } from "../../../src/engine/model/description";
import { elementCount } from "../../../src/engine/tensor/dtype";
import { expectError } from "../checkpoint/fixtures";
import { goldenCases, goldenCheckpoint } from "../../support/goldens";
import { openModel } from "../../support/tinyModels";

const tensorsOf = (weights: { view: WeightView }[]) => new Set(weights.map(({ view }) => view.tensor));

/** A new family's row appears by itself. */
describe.each(goldenCases())("$name", ({ checkpoint: directory }) => {
  test("scopes widen from the routers to every tensor that the forward pass reads but correction biases", async () => {
    const { checkpoint, description } = await openModel(directory);
    const routers = moeLayers(description).map(({ moe: { router } }) => router.weight.tensor);
    const router = trainableWeights(description, "router");
    expect([...tensorsOf(router)]).toEqual(routers);

    const experts = trainableWeights(description, "router+experts");
    const chosen = new Map(moeLayers(description).map(({ layer: index }) => [index, [1, 2]]));
    const some = trainableWeights(description, "router+top-experts", chosen);
    const all = trainableWeights(description, "all");
    const keys = (weights: { key: string }[]) => new Set(weights.map(({ key }) => key));
    for (const [smaller, larger] of [
      [router, some],
      [some, experts],
      [experts, all],
    ] as const) {
      expect(smaller.length).toBeLessThan(larger.length);
      expect([...keys(smaller)].filter((key) => !keys(larger).has(key))).toEqual([]);
      expect(keys(larger).size).toBe(larger.length);
    }
    for (const { layer: index, moe } of moeLayers(description)) {
      const own = experts.filter(({ layer, expert }) => layer === index && expert !== null);
      expect(new Set(own.map(({ expert }) => expert)).size).toBe(moe.numExperts);
      const taken = some.filter(({ layer, expert }) => layer === index && expert !== null);
      expect(new Set(taken.map(({ expert }) => expert))).toEqual(new Set([1, 2]));
      expect(taken.length * moe.numExperts).toBe(own.length * 2);
    }

    const corrections = moeLayers(description).flatMap(({ moe: { router: r } }) => r.correctionBias?.tensor ?? []);
    // An indexer only says which keys are read; where all of them are, its weights change nothing.
    const indexers = [...checkpoint.tensors.keys()].filter((name) => name.includes(".indexer."));
    const frozen = new Set([...corrections, ...indexers, ...description.unusedTensors]);
    const rest = [...checkpoint.tensors.keys()].filter((name) => !frozen.has(name));
    expect([...tensorsOf(all)].sort()).toEqual(rest.sort());
    // Every number once: slices of fused tensors neither overlap nor leave gaps.
    const numbers = all.reduce((sum, { view }) => sum + elementCount(view.shape), 0);
    expect(numbers).toBe(rest.reduce((sum, name) => sum + elementCount(checkpoint.tensors.get(name)!.shape), 0));
  });
});

describe("what cannot be changed is refused by name", () => {
  const changed = async (change: (description: ModelDescription) => void) => {
    const { description } = await openModel(goldenCheckpoint("qwen3_moe"));
    const copy = structuredClone(description);
    change(copy);
    return copy;
  };
  const expertOf = ({ layers }: ModelDescription) => {
    const { feedForward } = layers[1]!;
    return feedForward.kind === "moe" ? feedForward.experts[3]!.downProj : null;
  };
  const scales = (view: WeightView) => ({ ...view, shape: [1, 1] });

  test("F8 experts, by scopes that reach them", async () => {
    const description = await changed((copy) => {
      const { weight } = expertOf(copy)!;
      weight.dtype = "F8_E4M3";
      weight.quantisation = { kind: "scaled", scales: scales(weight), blockRows: 128, blockColumns: 128 };
    });
    expect(trainableWeights(description, "router")).toHaveLength(3);
    expect(trainableWeights(description, "router+top-experts", new Map([[1, [0, 1]]])).length).toBe(3 + 2 * 3);
    for (const scope of ["router+experts", "all"] as const) {
      await expectError(
        () => Promise.resolve().then(() => trainableWeights(description, scope)),
        "checkpoint/unsupported-dtype",
        "model.layers.1.mlp.experts.3.down_proj.weight",
        "F8_E4M3",
        scope,
      );
    }
  });

  test("factored experts", async () => {
    const description = await changed((copy) => {
      const { weight } = expertOf(copy)!;
      const form = { kind: "low-rank", left: scales(weight), right: scales(weight), base: null } as const;
      weight.quantisation = { kind: "factored", form };
    });
    await expectError(
      () => Promise.resolve().then(() => trainableWeights(description, "router+experts")),
      "model/unsupported-option",
      "model.layers.1.mlp.experts.3.down_proj.weight",
      "factored",
      "output=dense",
    );
  });
});

describe("names of what trains", () => {
  test.each([
    [["a.0.b.0.w", "a.0.b.1.w", "a.1.b.0.w", "a.1.b.1.w"], ["a.{0-1}.b.{0-1}.w"]],
    [
      ["a.0.b.0.w", "a.0.b.2.w", "a.0.b.3.w", "a.1.b.1.w"],
      ["a.0.b.{0,2-3}.w", "a.1.b.1.w"],
    ],
    [
      ["w", "a.3.w", "a.3.v"],
      ["w", "a.3.w", "a.3.v"],
    ],
  ])("%j -> %j", (names, expected) => {
    expect(gatherNumbers(names)).toEqual(expected);
  });

  test("of one layer's experts, of a fused tensor's, and of everything", async () => {
    const { description } = await openModel(goldenCheckpoint("qwen3_moe"));
    const chosen = new Map([
      [0, [1, 4]],
      [1, [1, 4]],
      [2, [0]],
    ]);
    expect(trainedNames(trainableWeights(description, "router+top-experts", chosen), description)).toEqual([
      "model.layers.{0-2}.mlp.gate.weight",
      "model.layers.{0-1}.mlp.experts.{1,4}.gate_proj.weight",
      "model.layers.{0-1}.mlp.experts.{1,4}.up_proj.weight",
      "model.layers.{0-1}.mlp.experts.{1,4}.down_proj.weight",
      "model.layers.2.mlp.experts.0.gate_proj.weight",
      "model.layers.2.mlp.experts.0.up_proj.weight",
      "model.layers.2.mlp.experts.0.down_proj.weight",
    ]);
    const fused = (await openModel(goldenCheckpoint("gpt_oss"))).description;
    expect(trainedNames(trainableWeights(fused, "router+top-experts", chosen), fused)).toEqual([
      "model.layers.{0-2}.mlp.router.weight",
      ...["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"].map(
        (name) => `model.layers.{0-1}.mlp.experts.${name}[1,4]`,
      ),
      ...["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"].map(
        (name) => `model.layers.2.mlp.experts.${name}[0]`,
      ),
    ]);
    expect(trainedNames(trainableWeights(fused, "router+experts"), fused)).toContain(
      "model.layers.{0-2}.mlp.experts.down_proj",
    );
    expect(trainedNames(trainableWeights(description, "all"), description)).toContain("model.embed_tokens.weight");
  });
});
