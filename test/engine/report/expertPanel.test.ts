import { describe, expect, it } from "vitest";
import { expertPanelOf, textPanelOf } from "../../../src/engine/report/expertPanel";
import { emptyLayerStatistics, type RoutingStatisticsData } from "../../../src/engine/routing/layerStatistics";
import { similarityMatrix, similarityRow } from "../../../src/engine/routing/similarity";
import { TokenSampler } from "../../../src/engine/routing/tokenSampler";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import { createRandom } from "../../../src/engine/tensor/random";
import { similarityMetrics } from "../../../src/protocol/panels";
import type { CompressionPlan } from "../../../src/protocol/plan";

const random = createRandom(5);
const [experts, hidden] = [4, 3];
/** Two sequences of four tokens, one expert a token: 0 0 1 2 | 1 1 0 2; expert 3 is never routed. */
const picks = [0, 0, 1, 2, 1, 1, 0, 2];
const weights = [0.5, 0.7, 0.2, 0.9, 0.6, 0.2, 0.1, 0.3];
const norms = [2, 4, 1, 10, 3, 5, 1, 2];
const sequences = {
  ...{ ids: Int32Array.from({ length: 8 }, (_, i) => i), lengths: Int32Array.of(4, 4), sequenceLength: 4 },
  ...{ domainIds: Uint8Array.of(0, 0, 0, 0, 1, 1, 1, 1), domainNames: ["code", "prose"] },
};
const observation = {
  ...{
    layer: 6,
    numTokens: 8,
    numRouterRows: experts,
    numExperts: experts,
    numExpertsPerToken: 1,
    hiddenSize: hidden,
    firstToken: 0,
  },
  routerLogits: Float32Array.from({ length: 8 * experts }, () => random.normal()),
  ...{ selectedIds: Int32Array.from(picks), routingWeights: Float32Array.from(weights) },
  outputs: {
    ...{ norms: Float32Array.from(norms), maxima: new Float32Array(8), absoluteMaxima: new Float32Array(8) },
    ...{
      sums: Float32Array.from({ length: experts * hidden }, () => random.normal()),
      inputOutputCosine: new Float32Array(8),
    },
  },
};
function profile(): RoutingStatisticsData {
  const statistics = new RoutingStatistics({ checkpoint: "c", fingerprint: "f", sequences, renormalises: true });
  const sampler = new TokenSampler(sequences, 1);
  statistics.observe(observation);
  sampler.observe(observation);
  return { ...statistics.result(), samples: sampler.result((all) => all.map((id) => `t${id}`)) };
}
const statistics = profile();
const plan = (kept: number[], scores?: (number | null)[]): CompressionPlan => ({
  ...{ schemaVersion: 1, paradigm: "pruning", method: "reap" },
  layers: { 6: { kept, ...(scores ? { scores } : {}) } },
});
const expert = (number: number, of: CompressionPlan | null = null) =>
  expertPanelOf(statistics, { layer: 6, expert: number }, of, null)!;

describe("one expert of a profile", () => {
  it("has its tokens in all and by domain, and its mean weight", () => {
    expect(expert(1)).toMatchObject({ tokens: 8, routed: 3, numExperts: 4 });
    expect(expert(1).meanRoutingWeight).toBeCloseTo(1 / 3, 6);
    expect(expert(1).domains).toEqual([
      { name: "code", tokens: 4, routed: 1 },
      { name: "prose", tokens: 4, routed: 2 },
    ]);
    expect(expertPanelOf(statistics, { layer: 6, expert: 4 }, null, null)).toBeNull();
    expect(expertPanelOf(statistics, { layer: 5, expert: 0 }, null, null)).toBeNull();
  });

  it("has every method's score with its place", () => {
    const scores = Object.fromEntries(expert(1).scores.map(({ method, ...rest }) => [method, rest]));
    expect(scores["frequency"]).toEqual({ score: 3, place: 1, of: 4 });
    // Mean of g ||f||: expert 0 (1 + 2.8 + 0.1) / 3, expert 1 (0.2 + 1.8 + 1) / 3, expert 2 (9 + 0.6) / 2.
    expect(scores["reap"]!.score).toBeCloseTo(1, 5);
    expect(scores["reap"]!.place).toBe(3);
    expect(expert(3).scores.map(({ score, place }) => [score, place])).toEqual(
      expert(3).scores.map(() => [null, null]),
    );
  });

  it("names the tokens that it weighs most, with what stands around them", () => {
    const { top } = expert(1);
    expect(top!.map(({ position }) => position)).toEqual([4, 2, 5]);
    expect(top![0]).toMatchObject({ sequence: 1, domain: "prose", before: "", token: "t4", after: "t5t6t7" });
    expect(top![1]).toMatchObject({ sequence: 0, domain: "code", before: "t0t1", token: "t2", after: "t3" });
    expect(expert(3).top).toEqual([]);
    const { samples: _samples, ...older } = statistics;
    expect(expertPanelOf(older, { layer: 6, expert: 1 }, null, null)!.top).toBeNull();
  });

  it("has its row of the similarity matrix", () => {
    const layer = statistics.layers[0]!;
    layer.weightCosine = Float64Array.from({ length: 16 }, () => random.uniform());
    for (const metric of similarityMetrics)
      for (let e = 0; e < experts; e++)
        expect([...similarityRow(layer, metric, e)!], metric).toEqual([
          ...similarityMatrix(layer, metric)!.slice(e * experts, (e + 1) * experts),
        ]);
    expect(expert(2).similar.map(({ metric }) => metric)).toEqual([...similarityMetrics]);
    expect(
      emptyLayerStatistics({ layer: 0, numExperts: 2, numExpertsPerToken: 1, hiddenSize: 2 }, 1).weightCosine,
    ).toBeNull();
  });

  const fates: [string, CompressionPlan, number, boolean, RegExp][] = [
    [
      "dropped for its score",
      plan([0, 2], [1.3, 1, 4.8, null]),
      1,
      true,
      /^Dropped: its score by reap takes place 3 of 4, 2 stay$/,
    ],
    [
      "never routed",
      plan([0, 2], [1.3, 1, 4.8, null]),
      3,
      true,
      /^Dropped: no token of the calibration text reached it, 2 stay$/,
    ],
    [
      "kept against its score",
      plan([1, 2], [1.3, 1, 4.8, null]),
      1,
      false,
      /^Kept: .*place 3 of 4, 2 stay; chosen otherwise/,
    ],
    ["kept", plan([0, 2], [1.3, 1, 4.8, null]), 2, false, /^Kept: its score by reap takes place 1 of 4, 2 stay$/],
    ["without scores", plan([0, 2]), 1, true, /^Dropped: the plan says no score, 2 stay$/],
    [
      "merged into another",
      {
        ...{ schemaVersion: 1, paradigm: "merging", method: "m-smoe", alignment: "none", router: "fold" },
        layers: { 6: { groups: [{ members: [0, 1], weights: [0.75, 0.25], dominant: 0 }] } },
      },
      1,
      true,
      /^Merged with 0 \(weight 0.25\); the router row of expert 0 stands for the group$/,
    ],
  ];
  it.each(fates)("says what the plan does with it: %s", (_name, of, number, dropped, text) => {
    expect(expert(number, of).fate).toMatchObject({ dropped, text: expect.stringMatching(text) as string });
  });
});

describe("the text of a profile", () => {
  it("has each token's experts by weight, and their entropy", () => {
    const text = textPanelOf(statistics, {})!;
    expect(text).toMatchObject({ layers: [6], layer: 6, numExperts: 4, numExpertsPerToken: 1, sequenceLength: 4 });
    expect(text.tokens).toEqual(["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
    expect(text.experts).toEqual(picks);
    expect(text.weights).toEqual(weights.map(Math.fround));
    expect(text.entropy.reduce((sum, value) => sum + value, 0)).toBeCloseTo(
      statistics.layers[0]!.tokenEntropySum.reduce((sum, value) => sum + value, 0),
      5,
    );
    const { samples: _samples, ...older } = statistics;
    expect(textPanelOf(older, {})).toBeNull();
  });
});
