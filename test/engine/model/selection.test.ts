import path from "node:path";
import { describe, expect, it } from "vitest";
import type { RoutingDescription, WeightView } from "../../../src/engine/model/description";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { softmaxRouting } from "../../../src/engine/model/routingRules";
import { routingWeights } from "../../../src/engine/model/routingWeights";
import { selectExperts } from "../../../src/engine/model/selection";
import { processorMs } from "../../support/processorTime";
import { goldenFolder, openGolden, readSafetensors, tensorOf } from "./goldens";

describe.each([...families.keys()])("routing of %s agrees with transformers", async (family) => {
  const { description } = describeModel(await openGolden(family));
  const golden = readSafetensors(path.join(goldenFolder(family), "golden.safetensors"));
  const weightsFile = readSafetensors(path.join(goldenFolder(family), "checkpoint", "model.safetensors"));
  const layers = description.layers.flatMap(({ index, feedForward }) =>
    feedForward.kind === "moe" ? [{ index, moe: feedForward }] : [],
  );

  it.each(layers)("layer $index", ({ index, moe }) => {
    const logits = tensorOf(golden, `router_logits.${index}`);
    const ids = tensorOf(golden, `topk_ids.${index}`);
    const [numTokens, numExperts] = logits.shape as [number, number];
    const k = ids.shape[1]!;
    expect([moe.numExperts, moe.numExpertsPerToken]).toEqual([numExperts, k]);
    const routerLogits = Float32Array.from(logits.values);
    const { correctionBias, expertScale = null } = moe.router;
    const vector = (view: WeightView | null) => view && Float32Array.from(tensorOf(weightsFile, view.tensor).values);
    const bias = vector(correctionBias);
    const out = new Int32Array(numTokens * k);
    selectExperts(moe.routing, routerLogits, numTokens, numExperts, k, bias, out);
    expect([...out]).toEqual([...ids.values]);
    const weights = routingWeights(moe.routing, routerLogits, out, numTokens, numExperts, k, vector(expertScale));
    const expected = tensorOf(golden, `topk_weights.${index}`).values;
    expected.forEach((value, i) => expect(Math.abs(weights[i]! - value)).toBeLessThan(1e-6));
  });
});

/** Deterministic numbers in [-4, 4), enough for tests. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 8 - 4;
  });
}

const softmax = softmaxRouting(true);
const sigmoid = {
  kind: "sigmoid",
  renormalise: true,
  epsilon: 1e-20,
  scalingFactor: 2.5,
  groups: null,
  useCorrectionBias: true,
} as const;

/** Sorts all experts, as slowly and plainly as possible. */
function selectBySorting(routing: RoutingDescription, logits: number[], k: number, bias: Float32Array): number[] {
  const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
  const score = (z: number, e: number) => {
    if (routing.kind === "sparse-mixer") return z;
    const base = routing.kind === "sigmoid" ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / total;
    return base + (routing.useCorrectionBias ? bias[e]! : 0);
  };
  const scores = logits.map(score);
  const best = (ids: number[], count: number, of: (id: number) => number) =>
    [...ids].sort((a, b) => of(b) - of(a) || a - b).slice(0, count);
  let candidates = logits.map((_, e) => e);
  if (routing.kind !== "sparse-mixer" && routing.groups) {
    const { numGroups, topGroups, score: rule } = routing.groups;
    const size = logits.length / numGroups;
    const groupScore = (group: number) => {
      const sorted = scores.slice(group * size, (group + 1) * size).sort((a, b) => b - a);
      return rule === "max" ? sorted[0]! : sorted[0]! + sorted[1]!;
    };
    const groups = best([...Array(numGroups).keys()], topGroups, groupScore);
    candidates = candidates.filter((e) => groups.includes(Math.floor(e / size)));
  }
  return best(candidates, k, (e) => scores[e]!).sort((a, b) => a - b);
}

describe("selection equals sorting", () => {
  const groups = (numGroups: number, topGroups: number, score: "max" | "sum-of-two") => ({
    numGroups,
    topGroups,
    score,
  });
  const rows: { name: string; routing: RoutingDescription; numExperts: number; k: number }[] = [
    { name: "softmax, 128 choose 8", routing: softmax, numExperts: 128, k: 8 },
    { name: "softmax, all experts", routing: softmax, numExperts: 5, k: 5 },
    { name: "softmax, one of one", routing: softmax, numExperts: 1, k: 1 },
    { name: "softmax after top-k", routing: { ...softmax, softmax: "after" }, numExperts: 32, k: 4 },
    { name: "softmax with bias", routing: { ...softmax, useCorrectionBias: true }, numExperts: 64, k: 6 },
    { name: "best groups by maximum", routing: { ...softmax, groups: groups(8, 3, "max") }, numExperts: 64, k: 6 },
    { name: "sigmoid with bias", routing: sigmoid, numExperts: 40, k: 8 },
    { name: "sigmoid without bias", routing: { ...sigmoid, useCorrectionBias: false }, numExperts: 40, k: 8 },
    {
      name: "best groups by two best",
      routing: { ...sigmoid, groups: groups(8, 4, "sum-of-two") },
      numExperts: 256,
      k: 8,
    },
    {
      name: "best groups by two best, no bias",
      routing: { ...sigmoid, useCorrectionBias: false, groups: groups(4, 1, "sum-of-two") },
      numExperts: 16,
      k: 4,
    },
    { name: "sparse mixer", routing: { kind: "sparse-mixer", jitter: 0.01 }, numExperts: 16, k: 2 },
  ];
  it.each(rows)("$name", ({ routing, numExperts, k }) => {
    const numTokens = 200;
    const logits = numbers(numTokens * numExperts, 42);
    const bias = numbers(numExperts, 7).map((value) => value / 40);
    const out = new Int32Array(numTokens * k);
    selectExperts(routing, logits, numTokens, numExperts, k, bias, out);
    for (let t = 0; t < numTokens; t++) {
      const row = [...logits.subarray(t * numExperts, (t + 1) * numExperts)];
      expect([...out.subarray(t * k, (t + 1) * k)]).toEqual(selectBySorting(routing, row, k, bias));
    }
  });

  const edge: { name: string; logits: number[]; k: number; expected: number[] }[] = [
    { name: "ties go to the lower id", logits: [1, 2, 2, 2, 1], k: 2, expected: [1, 2] },
    { name: "all equal", logits: [0, 0, 0, 0], k: 3, expected: [0, 1, 2] },
    { name: "minus infinity is chosen only when needed", logits: [-Infinity, 1, -Infinity], k: 2, expected: [0, 1] },
    { name: "NaN is not passed over", logits: [3, 2, NaN, 1], k: 2, expected: [0, 2] },
    { name: "only NaN", logits: [NaN, NaN, NaN], k: 2, expected: [0, 1] },
  ];
  it.each(edge)("$name", ({ logits, k, expected }) => {
    const out = new Int32Array(k);
    selectExperts(softmax, Float32Array.from(logits), 1, logits.length, k, null, out);
    expect([...out]).toEqual(expected);
  });

  it("handles 4096 tokens of 128 experts in a few milliseconds", () => {
    const logits = numbers(4096 * 128, 1);
    const out = new Int32Array(4096 * 8);
    const times = Array.from({ length: 7 }, () => {
      const start = processorMs();
      selectExperts(softmax, logits, 4096, 128, 8, null, out);
      return processorMs() - start;
    });
    // Measured 3 to 5 ms; the bound leaves room for a busy machine.
    expect(Math.min(...times)).toBeLessThan(25);
  });
});

describe("routing weights by hand", () => {
  const weights = (routing: RoutingDescription, logits: number[], ids: number[]) => [
    ...routingWeights(routing, Float32Array.from(logits), Int32Array.from(ids), 1, logits.length, ids.length),
  ];
  const ln = Math.log;
  // Logits ln 1, ln 2, ln 5 are probabilities 1/8, 2/8, 5/8.
  const eighths = [ln(1), ln(2), ln(5)];
  const rows: { name: string; routing: RoutingDescription; logits: number[]; ids: number[]; expected: number[] }[] = [
    { name: "probabilities", routing: softmaxRouting(false), logits: eighths, ids: [1, 2], expected: [2 / 8, 5 / 8] },
    { name: "renormalised", routing: softmax, logits: eighths, ids: [1, 2], expected: [2 / 7, 5 / 7] },
    {
      name: "after top-k",
      routing: { ...softmax, softmax: "after", renormalise: false },
      logits: eighths,
      ids: [0, 2],
      expected: [1 / 6, 5 / 6],
    },
    {
      name: "scaled",
      routing: { ...softmaxRouting(false), scalingFactor: 16 },
      logits: eighths,
      ids: [0, 1],
      expected: [2, 4],
    },
    {
      name: "clamped divisor",
      routing: { ...softmax, epsilon: 0.5, epsilonMode: "clamp" },
      logits: eighths,
      ids: [0, 1],
      expected: [2 / 8, 4 / 8],
    },
    {
      name: "added divisor",
      routing: { ...softmax, epsilon: 0.125 },
      logits: eighths,
      ids: [0, 1],
      expected: [1 / 4, 2 / 4],
    },
    // sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4.
    {
      name: "sigmoid",
      routing: { ...sigmoid, scalingFactor: 1 },
      logits: [0, ln(3), -9],
      ids: [0, 1],
      expected: [2 / 5, 3 / 5],
    },
    {
      name: "sigmoid not renormalised",
      routing: { ...sigmoid, renormalise: false, scalingFactor: 4 },
      logits: [0, ln(3)],
      ids: [0, 1],
      expected: [2, 3],
    },
    // Far apart: each selected expert is alone within its margin.
    {
      name: "sparse mixer, far apart",
      routing: { kind: "sparse-mixer", jitter: 0.01 },
      logits: [1, 4, 2],
      ids: [1, 2],
      expected: [1, 1],
    },
    // Margin 20 %: 5 and 4.5 are near each other in the first step; the second step leaves 5 out, and 4 is near 4.5.
    {
      name: "sparse mixer, near",
      routing: { kind: "sparse-mixer", jitter: 0.075 },
      logits: [4.5, 1, 5, 4],
      ids: [0, 2],
      expected: [1 / (1 + Math.exp(-0.5)), 1 / (1 + Math.exp(-0.5))],
    },
  ];
  it.each(rows)("$name", ({ routing, logits, ids, expected }) => {
    weights(routing, logits, ids).forEach((weight, i) => expect(weight).toBeCloseTo(expected[i]!, 6));
  });
});
