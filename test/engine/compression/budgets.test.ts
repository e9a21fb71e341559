import path from "node:path";
import { describe, expect, it } from "vitest";
import { countsByRedundancy, countsByScore } from "../../../src/engine/compression/budgets/expertCounts";
import { plannedSize, checkpointSize } from "../../../src/engine/compression/plannedSize";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { createRandom } from "../../../src/engine/tensor/random";
import type { CompressOptions } from "../../../src/protocol/recipe";
import { compress, goldens, logitsOf, makeContext, openModel, randomSequences, scratch } from "./support";

const { folder, fresh } = scratch();

describe("experts of each layer", () => {
  it.each<[string, (number | null)[][], number, number[], number[]]>([
    // Shares: .1 .2 .7 and .3 .3 .4; leaving in order .1, .2, .3.
    [
      "the smallest shares leave",
      [
        [1, 2, 7],
        [30, 30, 40],
      ],
      4,
      [1, 1],
      [1, 3],
    ],
    [
      "no layer goes below top-k",
      [
        [1, 2, 7],
        [30, 30, 40],
      ],
      4,
      [2, 1],
      [2, 2],
    ],
    [
      "never routed experts first",
      [
        [null, 2, 8],
        [1, 1, 1],
      ],
      5,
      [1, 1],
      [2, 3],
    ],
  ])("by score: %s", (_, layers, total, least, expected) => {
    expect(countsByScore(layers, total, least)).toEqual(expected);
  });

  const alike = (E: number, value: number) => ({ numExperts: E, similarity: new Float64Array(E * E).fill(value) });
  it.each<[string, { numExperts: number; similarity: Float64Array }[], number, number, number[]]>([
    ["the more redundant layer pays", [alike(4, 0.9), alike(4, 0.1)], 6, 0.5, [2, 4]],
    ["until the entropy says wait", [alike(4, 0.9), alike(4, 0.1)], 6, 1e-3, [3, 3]],
    ["and the other pays at its least", [alike(3, 0.9), alike(3, 0.1)], 3, 0.9, [1, 2]],
  ])("by redundancy: %s", (_, layers, total, gamma, expected) => {
    expect(countsByRedundancy(layers, total, [1, 1], gamma)).toEqual(expected);
  });

  it("over seeds: totals are met and limits kept", () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = createRandom(seed);
      const [L, E, k] = [1 + random.below(4), 4 + random.below(5), 1 + random.below(2)];
      const total = L * (k + random.below(E - k + 1));
      const scores = Array.from({ length: L }, () => Array.from({ length: E }, () => random.uniform()));
      const similarities = scores.map((own) => ({
        numExperts: E,
        similarity: Float64Array.from({ length: E * E }, (_, i) => own[i % E]! * own[Math.floor(i / E)]!),
      }));
      const least = new Array<number>(L).fill(k);
      for (const counts of [
        countsByScore(scores, total, least),
        countsByRedundancy(similarities, total, least, 0.02),
      ]) {
        expect(counts.reduce((sum, n) => sum + n, 0)).toBe(total);
        expect(counts.every((count) => count >= k && count <= E)).toBe(true);
      }
    }
  });
});

describe("on a model", () => {
  const planOf = async (options: Partial<CompressOptions>) => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), { keep: 0.5, ...options }, randomSequences(model));
    return { model, context, plan: makePruningPlan({ ...context, weightScores: null }) };
  };

  it.each(["sensitivity", "grape"])("budget=%s is written, sized and read again", async (budget) => {
    const { model, context, plan } = await planOf({ options: { budget, gamma: 0.5 } });
    const counts = Object.values(plan.layers).map(({ kept }) => kept.length);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(4 * counts.length);
    if (plan.counts !== "by-layer") return;
    expect(plan.notes!.join("\n")).toMatch(/only Reroute loads/);
    const student = await compress(context, plan, fresh());
    expect(moeLayers(student.description).map(({ moe }) => moe.numExperts)).toEqual(counts);
    expect(checkpointSize(student.checkpoint)).toEqual(plannedSize(model, plan));
    expect((await logitsOf(student, folder)).every(Number.isFinite)).toBe(true);
  });

  it.each<[string, Partial<CompressOptions>, RegExp]>([
    ["an unknown budget", { options: { budget: "fair" } }, /uniform, sensitivity, grape/],
    ["gamma", { options: { budget: "grape", gamma: 2 } }, /between 0 and 1/],
    ["scores from nowhere", { method: "random", options: { budget: "grape" } }, /scores experts by their profile/],
  ])("refused: %s", async (_, options, message) => {
    await expect(planOf(options)).rejects.toMatchObject({
      code: "arguments/invalid",
      message: expect.stringMatching(message) as unknown,
    });
  });
});
