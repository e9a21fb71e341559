import { describe, expect, it } from "vitest";
import { parsePlan, validatePlan } from "../../../src/engine/compression/plan/validatePlan";
import type { GroupLimit } from "../../../src/engine/model/description";
import type { PruningPlan } from "../../../src/protocol/plan";
import { describeLayers } from "./description";

const groups: GroupLimit = { numGroups: 2, topGroups: 1, score: "sum-of-two" };
const model = describeLayers({}, {});

function check(plan: unknown, description = model): void {
  validatePlan(parsePlan(JSON.stringify(plan), "plan.json", { keep: 0.625 }), description, "abcdef");
}
const manual = (layers: Record<string, number[]>, more: object = {}) => ({
  schemaVersion: 1,
  paradigm: "pruning",
  method: "manual",
  layers: Object.fromEntries(Object.entries(layers).map(([layer, kept]) => [layer, { kept }])),
  ...more,
});

describe("plans", () => {
  it("accepts a hand plan", () => {
    expect(() => check(manual({ 1: [0, 3, 5], 2: [1, 2, 7] }))).not.toThrow();
    expect(() =>
      check(manual({ 1: [0, 1, 4, 5], 2: [0, 3, 4, 7] }), describeLayers({ groups }, { groups })),
    ).not.toThrow();
  });

  const rows: [string, unknown, RegExp][] = [
    ["a layer missing", manual({ 1: [0, 1] }), /says nothing about the MoE layers 2/],
    ["a dense layer", manual({ 0: [0, 1], 1: [0, 1], 2: [0, 1] }), /layer 0, which is no MoE layer.*1-2/],
    ["an unknown expert", manual({ 1: [0, 8], 2: [0, 1] }), /expert 8 of layer 1, which has experts 0 to 7/],
    ["an expert twice", manual({ 1: [3, 3], 2: [0, 1] }), /3, 3 of layer 1/],
    ["descending ids", manual({ 1: [3, 1], 2: [0, 1] }), /ascending/],
    ["fewer than top-k", manual({ 1: [3], 2: [0] }), /keeps 1 experts of layer 1, but its router selects 2/],
    [
      "layers that differ",
      manual({ 1: [0, 1, 2], 2: [0, 1] }),
      /3 experts in layer 1 and 2 in layer 2.*transformers, vLLM/,
    ],
    [
      "another model's plan",
      manual({ 1: [0, 1], 2: [0, 1] }, { teacherFingerprint: "ffff" }),
      /fingerprint ffff.*abcdef/,
    ],
    ["no JSON schema", manual({ x: [0] }), /schema at layers/],
    [
      "a prototype key",
      JSON.parse('{"schemaVersion":1,"paradigm":"pruning","method":"m","layers":{"__proto__":{"kept":[1]}}}'),
      /MoE layers|schema/,
    ],
    [
      "constants",
      {
        ...manual({ 1: [0, 1], 2: [0, 1] }),
        layers: { 1: { kept: [0, 1], replaceByConstant: true }, 2: { kept: [0, 1] } },
      },
      /constants/,
    ],
    [
      "scores of another model",
      { ...manual({}), layers: { 1: { kept: [0, 1], scores: [1, 1] }, 2: { kept: [0, 1] } } },
      /lists 2 experts for layer 1, which has 8/,
    ],
    ["an unknown paradigm", { schemaVersion: 1, paradigm: "magic", method: "m", layers: {} }, /schema/],
  ];
  it.each(rows)("refuses %s", (_name, plan, message) => {
    expect(() => check(plan)).toThrow(message);
    expect(() => check(plan)).toThrow(expect.objectContaining({ code: "plan/invalid" }));
  });

  it("refuses unequal groups and groups that are too small", () => {
    const grouped = describeLayers({ groups });
    expect(() => check(manual({ 1: [0, 1, 2, 4] }), grouped)).toThrow(/3, 1 experts in the 2 routing groups/);
    expect(() => check(manual({ 1: [0, 4] }), grouped)).toThrow(/best two/);
  });

  it("refuses text that is not JSON, and a merged checkpoint", () => {
    expect(() => parsePlan("{", "plan.json", { keep: 0.625 })).toThrow(/plan.json is not JSON/);
    expect(() => check(manual({ 1: [0, 1] }), describeLayers({ merged: [0, 0, 1] }))).toThrow(/already merged/);
  });
});

describe("plans of other tools", () => {
  const mask = { 1: [1, 1, 0, 1, 0, 1, 0, 1], 2: [0, 1, 1, 1, 1, 1, 0, 0] };
  const ranking = { 1: [3, 2, 1, 5, 4, 0, 7, 6], 2: [1, 0, 5, 7, 4, 6, 2, 3] };
  const lines = (layers: Record<string, unknown>) =>
    Object.entries(layers)
      .map(([layer, list]) => JSON.stringify({ [layer]: list }))
      .join("\n");
  const kept = (text: string, keep = 0.625) => {
    const plan = parsePlan(text, "plan.json", { keep });
    validatePlan(plan, model, "abcdef");
    expect(plan).toMatchObject({ paradigm: "pruning", method: "imported" });
    return Object.fromEntries(Object.entries((plan as PruningPlan).layers).map(([layer, made]) => [layer, made.kept]));
  };
  const masked = { 1: [0, 1, 3, 5, 7], 2: [1, 2, 3, 4, 5] };
  const ranked = { 1: [1, 2, 3, 4, 5], 2: [0, 1, 4, 5, 7] };
  const rows: [string, string, number, object][] = [
    ["a mask", JSON.stringify(mask), 0.625, masked],
    ["a mask of booleans, whatever keep is", JSON.stringify({ 1: mask[1].map(Boolean), 2: mask[2] }), 3, masked],
    ["a mask, a layer a line", `${lines(mask)}\n`, 0.625, masked],
    ["a ranked list, a layer a line", lines(ranking), 0.625, ranked],
    ["a ranked list with a count", JSON.stringify(ranking), 2, { 1: [2, 3], 2: [0, 1] }],
    [
      "a ranked list by module names",
      JSON.stringify({ "model.layers.1.mlp": ranking[1], layer_2: ranking[2] }),
      0.625,
      ranked,
    ],
    ["kept ids in any order", JSON.stringify({ 1: [7, 0, 3], 2: [2, 1, 0] }), 0.625, { 1: [0, 3, 7], 2: [0, 1, 2] }],
  ];
  it.each(rows)("%s", (_name, text, keep, expected) => expect(kept(text, keep)).toEqual(expected));

  it("counts of a ranked list are rounded to a multiple, and every other plan must keep to it", () => {
    const rounded = parsePlan(JSON.stringify(ranking), "plan.json", { keep: 0.625, multipleOf: 4 });
    expect(rounded).toMatchObject({ layers: { 1: { kept: [1, 2, 3, 5] }, 2: { kept: [0, 1, 5, 7] } } });
    const group = (dominant: number) => ({ members: [dominant], weights: [1], dominant });
    const merging = { schemaVersion: 1, paradigm: "merging", method: "m", alignment: "none", router: "map" };
    for (const [plan, count] of [
      [mask, 5],
      [manual({ 1: [0, 1, 2], 2: [0, 1, 2] }), 3],
      [{ ...merging, layers: { 1: { groups: [0, 1, 2].map(group) } } }, 3],
    ] as const) {
      const parse = (multipleOf: number) => parsePlan(JSON.stringify(plan), "plan.json", { keep: 0.5, multipleOf });
      expect(() => parse(4)).toThrow(new RegExp(`keeps ${count} experts in layer 1, which is no multiple of 4`));
      expect(() => parse(4)).toThrow(expect.objectContaining({ code: "plan/invalid" }));
      expect(() => parse(count)).not.toThrow();
    }
  });

  const wrong: [string, string, RegExp][] = [
    [
      "a mask of another model",
      JSON.stringify({ 1: [1, 1, 0], 2: [1, 1, 0] }),
      /lists 3 experts for layer 1, which has 8/,
    ],
    ["a mask beside a ranking", JSON.stringify({ 1: mask[1], 2: ranking[2] }), /no list of experts for layer 1 like/],
    ["an id twice", JSON.stringify({ 1: [3, 3, 4], 2: [1, 2, 3] }), /layer 1 like/],
    ["a layer twice", `${lines(mask)}\n${lines(mask)}`, /names layer 1 twice/],
    [
      "a mask that keeps none",
      JSON.stringify({ 1: mask[1], 2: [0, 0, 0, 0, 0, 0, 0, 0] }),
      /keeps no expert of layer 2/,
    ],
    ["a layer left out", JSON.stringify({ 1: mask[1] }), /nothing about the MoE layers 2/],
    ["an unknown form", JSON.stringify({ retained: { 1: [1] } }), /schema at .*a mask, a ranked list/],
  ];
  it.each(wrong)("refuses %s", (_name, text, message) => {
    expect(() => kept(text)).toThrow(message);
    expect(() => kept(text)).toThrow(expect.objectContaining({ code: "plan/invalid" }));
  });
});
