import { describe, expect, it } from "vitest";
import { parsePlan, validatePlan } from "../../../src/engine/compression/plan/validatePlan";
import type { GroupLimit } from "../../../src/engine/model/description";
import { describeLayers } from "./description";

const groups: GroupLimit = { numGroups: 2, topGroups: 1, score: "sum-of-two" };
const model = describeLayers({}, {});

function check(plan: unknown, description = model): void {
  validatePlan(parsePlan(JSON.stringify(plan), "plan.json"), description, "abcdef");
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
    expect(() => parsePlan("{", "plan.json")).toThrow(/plan.json is not JSON/);
    expect(() => check(manual({ 1: [0, 1] }), describeLayers({ merged: [0, 0, 1] }))).toThrow(/already merged/);
  });
});
