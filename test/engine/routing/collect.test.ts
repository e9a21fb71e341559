import { describe, expect, it } from "vitest";
import { authorsRenormalise, RoutingStatistics } from "../../../src/engine/routing/collect";
import { overDomains, ofDomain } from "../../../src/engine/routing/layerStatistics";
import type { MoeObservation } from "../../../src/engine/execution/observer";

const log = Math.log;

/** Two sequences of two positions; the last position is padding. Three experts, top-2, hidden size 2. */
const sequences = {
  sequenceLength: 2,
  lengths: Int32Array.of(2, 1),
  domainIds: Uint8Array.of(0, 1, 1, 0),
  domainNames: ["law", "sea"],
};

/** Probabilities 1/2, 1/4, 1/4 for token 0; 1/10, 6/10, 3/10 for token 1; the third token equals the first. */
const logits = [log(2), log(1), log(1), log(1), log(6), log(3), log(2), log(1), log(1), 9, 9, 9];

/** f_e(x) is (3, 4) for expert 0 (norm 5), (-6, 8) for expert 1 (norm 10), (0, -1) for expert 2 (norm 1). */
const outputs = [
  [3, 4],
  [-6, 8],
  [0, -1],
];
const selected = [0, 1, 1, 2, 0, 1, 0, 2];
const weights = [0.5, 0.25, 0.6, 0.3, 0.4, 0.1, 7, 7];

function observation(from: number, to: number): MoeObservation {
  const ids = selected.slice(from * 2, to * 2);
  const sums = new Float32Array(6);
  // Of the leaf so far, which is all of the text.
  for (let t = 0; t < Math.min(to, 3); t++) {
    for (const e of selected.slice(t * 2, t * 2 + 2)) {
      sums[e * 2]! += outputs[e]![0]!;
      sums[e * 2 + 1]! += outputs[e]![1]!;
    }
  }
  return {
    layer: 4,
    numTokens: to - from,
    numRouterRows: 3,
    numExperts: 3,
    numExpertsPerToken: 2,
    hiddenSize: 2,
    firstToken: from,
    routerLogits: Float32Array.from(logits.slice(from * 3, to * 3)),
    selectedIds: Int32Array.from(ids),
    routingWeights: Float32Array.from(weights.slice(from * 2, to * 2)),
    outputs: {
      norms: Float32Array.from(ids, (e) => Math.hypot(...outputs[e]!)),
      maxima: Float32Array.from(ids, (e) => Math.max(...outputs[e]!)),
      absoluteMaxima: Float32Array.from(ids, (e) => Math.max(...outputs[e]!.map(Math.abs))),
      sums,
      inputOutputCosine: Float32Array.from([0.5, 1.5, -0.5, 0].slice(from, to)),
    },
  };
}

function collect(chunks: [number, number][], renormalises = true) {
  const statistics = new RoutingStatistics({
    checkpoint: "c",
    fingerprint: "f",
    sequences,
    renormalises,
  });
  for (const [from, to] of chunks) statistics.observe(observation(from, to));
  return statistics.result().layers[0]!;
}

function close(actual: ArrayLike<number>, expected: number[], digits = 6) {
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => expect(actual[i]).toBeCloseTo(value, digits));
}

describe("routing statistics of three hand-made tokens", () => {
  const layer = collect([[0, 4]]);

  const rows: [Parameters<typeof overDomains>[1], number[]][] = [
    ["tokens", [3]],
    ["frequency", [2, 3, 1]],
    ["routingWeightSum", [0.9, 0.95, 0.3]],
    ["outputNormSum", [10, 30, 1]],
    ["squaredNormSum", [50, 300, 1]],
    ["weightedNormSum", [0.5 * 5 + 0.4 * 5, (0.25 + 0.6 + 0.1) * 10, 0.3]],
    // Softmax over all, divided by the selected mass: 2/3 and 1/3, 2/3 and 1/3, 2/3 and 1/3.
    ["softmaxWeightedNormSum", [(4 / 3) * 5, (1 / 3 + 2 / 3 + 1 / 3) * 10, 1 / 3]],
    // max(1 - cos, 0) is 0.5, 0 (cosine above 1 is clipped) and 1.5.
    ["easyEpSum", [0.5 * 5 * 0.5 + 0.4 * 5 * 1.5, 0.25 * 10 * 0.5 + 0.1 * 10 * 1.5, 0]],
    ["maxActivation", [4, 8, 0]],
    ["maxAbsoluteActivation", [4, 8, 1]],
    ["selectedMassSum", [0.75 + 0.9 + 0.75]],
    ["topKMarginSum", [0 + (log(3) - log(1)) + 0]],
    ["tokenEntropySum", [2 * (0.5 * log(2) + 0.5 * log(4)) - (0.1 * log(0.1) + 0.6 * log(0.6) + 0.3 * log(0.3))]],
  ];
  it.each(rows)("%s over all domains", (field, expected) => close(overDomains(layer, field), expected, 5));

  it("splits by each token's domain and leaves padding out", () => {
    close(ofDomain(layer, "frequency", 0), [1, 1, 0]);
    close(ofDomain(layer, "frequency", 1), [1, 2, 1]);
    close(ofDomain(layer, "tokens", 1), [2]);
  });

  it("sums outputs and router logits over valid tokens", () => {
    close(layer.outputSum, [6, 8, -18, 24, 0, -1]);
    close(layer.logitSum, [2 * log(2), log(6), log(3)]);
    const a = [log(2), 0, 0];
    const b = [0, log(6), log(3)];
    const gram = [0, 1, 2].flatMap((i) => [0, 1, 2].map((j) => 2 * a[i]! * a[j]! + b[i]! * b[j]!));
    close(layer.logitGram, gram, 5);
  });

  it("does not depend on how tokens are cut into chunks", () => {
    const cut = collect([
      [0, 1],
      [1, 3],
      [3, 4],
    ]);
    expect(cut).toEqual(layer);
  });

  it("uses plain probabilities where the model does not renormalise", () => {
    close(overDomains(collect([[0, 3]], false), "softmaxWeightedNormSum"), [5, (0.25 + 0.6 + 0.25) * 10, 0.3], 5);
  });

  it("stops at a router that is not finite", () => {
    const broken = observation(0, 1);
    broken.routerLogits[1] = NaN;
    const statistics = new RoutingStatistics({
      checkpoint: "c",
      fingerprint: "f",
      sequences,
      renormalises: true,
    });
    expect(() => statistics.observe(broken)).toThrow(/layer 4/);
  });
});

it.each([
  ["Qwen3-30B", { norm_topk_prob: true }, true],
  ["Qwen1.5-MoE", { norm_topk_prob: false }, false],
  ["Mixtral, whose model does", { model_type: "mixtral" }, false],
])("the REAP authors' program renormalises by config.json alone: %s", (_name, config, expected) => {
  expect(authorsRenormalise(config)).toBe(expected);
});
