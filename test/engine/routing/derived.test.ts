import { describe, expect, it } from "vitest";
import { leavesOf } from "../../../src/engine/execution/leaves";
import { createRandom } from "../../../src/engine/tensor/random";
import { averageLinkage, cutToClusters, dendrogramOrder } from "../../../src/engine/routing/averageLinkage";
import {
  coefficientOfVariation,
  neverUsed,
  normalisedEntropy,
  utilisation,
  loadChange,
} from "../../../src/engine/routing/loadBalance";
import { emptyLayerStatistics, type LayerStatistics } from "../../../src/engine/routing/layerStatistics";
import { outputCosine, outputDistance, routerLogitCosine } from "../../../src/engine/routing/similarity";
import { routingPanelOf, similarityPanelOf } from "../../../src/engine/routing/panels";
import { compareRouting, RoutingFidelity } from "../../../src/engine/routing/fidelity";

describe("load balance", () => {
  const rows: { frequency: number[]; share: number[]; cv: number; entropy: number; unused: number[] }[] = [
    { frequency: [5, 5, 5, 5], share: [0.25, 0.25, 0.25, 0.25], cv: 0, entropy: 1, unused: [] },
    { frequency: [8, 0, 0, 0], share: [1, 0, 0, 0], cv: Math.sqrt(3), entropy: 0, unused: [1, 2, 3] },
    { frequency: [2, 2, 0, 0], share: [0.5, 0.5, 0, 0], cv: 1, entropy: 0.5, unused: [2, 3] },
    { frequency: [0, 0], share: [0, 0], cv: 0, entropy: 0, unused: [0, 1] },
    { frequency: [7], share: [1], cv: 0, entropy: 1, unused: [] },
  ];
  it.each(rows)("of $frequency", ({ frequency, share, cv, entropy, unused }) => {
    const f = Float64Array.from(frequency);
    expect([...utilisation(f)]).toEqual(share);
    expect(coefficientOfVariation(f)).toBeCloseTo(cv, 12);
    expect(normalisedEntropy(f)).toBeCloseTo(entropy, 12);
    expect(neverUsed(f)).toEqual(unused);
  });
});

/** Expert 0 and 1 with mean outputs (3, 4) and (6, 8), expert 2 with (-4, 3), expert 3 never routed. */
function handMadeLayer(): LayerStatistics {
  const layer = emptyLayerStatistics({ layer: 2, numExperts: 4, numExpertsPerToken: 2, hiddenSize: 2 }, 1);
  layer.tokens.set([4]);
  layer.frequency.set([2, 1, 1, 0]);
  layer.routingWeightSum.set([1, 0.25, 0.75, 0]);
  layer.outputNormSum.set([10, 10, 5, 0]);
  layer.outputSum.set([6, 8, 6, 8, -4, 3, 0, 0]);
  layer.logitGram.set([4, 2, 0, -4, 2, 4, 0, 0, 0, 0, 9, 0, -4, 0, 0, 16]);
  layer.selectedMassSum.set([2]);
  return layer;
}

describe("similarity of hand-made experts", () => {
  const layer = handMadeLayer();
  it("cosine of router logits from the Gram matrix", () => {
    const cosine = routerLogitCosine(layer);
    expect(cosine[0]).toBe(1);
    expect(cosine[1]).toBe(0.5);
    expect(cosine[3]).toBe(-0.5);
    expect(cosine[2 * 4 + 0]).toBe(0);
  });
  it("cosine and distance of mean outputs", () => {
    expect(outputCosine(layer)[1]).toBeCloseTo(1, 12);
    expect(outputCosine(layer)[2]).toBeCloseTo(0, 12);
    expect(outputDistance(layer)[1]).toBeCloseTo(5, 12);
    expect(outputDistance(layer)[2]).toBeCloseTo(Math.hypot(7, 1), 12);
    expect(outputDistance(layer)[3]).toBeNaN();
  });
});

describe("panel data", () => {
  const statistics = { checkpoint: "/models/m", fingerprint: "f", domainNames: ["", "law"], layers: [handMadeLayer()] };
  it("routing", () => {
    const data = routingPanelOf({ ...statistics, domainNames: [""] });
    expect(data.byDomain[""]!.utilisation.values).toEqual([0.5, 0.25, 0.25, 0]);
    expect(data.byDomain[""]!.meanRoutingWeight.values).toEqual([0.5, 0.25, 0.75, null]);
    expect(data.byDomain[""]!.layers[0]!.selectedMass).toBe(0.5);
    expect(data.neverUsed).toEqual([[2, 3]]);
    expect(data.tokens).toBe(4);
  });
  it("similarity lists what the profile holds and orders leaves by the dendrogram", () => {
    const data = similarityPanelOf(statistics, { layer: 2, metric: "output-distance" })!;
    expect(data.available).toEqual(["router-logit-cosine", "output-cosine", "output-distance"]);
    expect(data.matrix.values[3]).toBeNull();
    expect(data.dendrogramOrder.slice(0, 2)).toEqual([0, 1]);
    expect(similarityPanelOf(statistics, { layer: 5 })).toBeNull();
  });
});

describe("average linkage", () => {
  /** Joins the pair with the smallest mean over all member pairs, computed anew at every step. */
  function bruteForce(d: Float64Array, n: number, count: number): number[][] {
    let clusters = Array.from({ length: n }, (_, i) => [i]);
    while (clusters.length > count) {
      let best = { mean: Infinity, a: 0, b: 0 };
      for (let a = 0; a < clusters.length; a++) {
        for (let b = a + 1; b < clusters.length; b++) {
          const pairs = clusters[a]!.flatMap((i) => clusters[b]!.map((j) => d[i * n + j]!));
          const mean = pairs.reduce((sum, x) => sum + x, 0) / pairs.length;
          if (mean < best.mean) best = { mean, a, b };
        }
      }
      const joined = [...clusters[best.a]!, ...clusters[best.b]!].sort((x, y) => x - y);
      clusters = clusters.filter((_, i) => i !== best.a && i !== best.b);
      clusters.push(joined);
      clusters.sort((x, y) => x[0]! - y[0]!);
    }
    return clusters;
  }

  it.each([1, 2, 3, 8, 17, 40])("agrees with brute force on %i random points", (n) => {
    const random = createRandom(42, n);
    const points = Array.from({ length: n }, () => [random.normal(), random.normal(), random.normal()]);
    const d = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) d[i * n + j] = Math.hypot(...points[i]!.map((x, c) => x - points[j]![c]!));
    }
    const joins = averageLinkage(d, n);
    for (let count = 1; count <= n; count++) expect(cutToClusters(joins, n, count)).toEqual(bruteForce(d, n, count));
    expect([...dendrogramOrder(joins, n)].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
    for (let i = 1; i < joins.length; i++)
      expect(joins[i]!.distance).toBeGreaterThanOrEqual(joins[i - 1]!.distance - 1e-12);
  });

  it("joins equal distances from the lowest ids", () => {
    const joins = averageLinkage(new Float64Array(16).fill(1), 4);
    expect(joins.map(({ left, right }) => [left, right])).toEqual([
      [0, 1],
      [4, 2],
      [5, 3],
    ]);
  });
});

describe("routing fidelity", () => {
  const log = Math.log;
  // Teacher 1/2, 1/4, 1/8, 1/8; student over experts 0 and 1: 1/2, 1/2.
  const pair = {
    numTokens: 1,
    teacherLogits: Float32Array.of(log(4), log(2), 0, 0),
    studentLogits: Float32Array.of(0, 0),
    teacherSelected: Int32Array.of(0, 2),
    studentSelected: Int32Array.of(0, 1),
    teacherTopK: 2,
    studentTopK: 2,
  };
  it("of a pruned student", () => {
    const { kl, l1, overlap, klByExpert } = compareRouting(pair, [[0], [1]]);
    const expected = (2 / 3) * log(2 / 3 / 0.5) + (1 / 3) * log(1 / 3 / 0.5);
    expect(kl[0]).toBeCloseTo(expected, 6);
    expect(l1[0]).toBeCloseTo(0 + 0.25 + 0.125 + 0.125, 6);
    expect(overlap[0]).toBe(0.5);
    expect(klByExpert[0]).toBeCloseTo((2 / 3) * log(4 / 3), 6);
    expect(klByExpert[2]).toBe(0);
  });
  it("says how differently experts are used, by hand", () => {
    const loads = (teacher: number[], student: number[], mapping: number[][]) =>
      loadChange(Float64Array.from(teacher), Float64Array.from(student), mapping);
    // Shares 1/2, 1/2, 0, 0 against 3/4, 1/4; means 2 and 4, standard deviations 2 and 2.
    expect(loads([4, 4, 0, 0], [6, 2], [[0], [1]])).toEqual({
      totalVariation: 0.25,
      teacher: { coefficientOfVariation: 1, dead: 2 },
      student: { coefficientOfVariation: 0.5, dead: 0 },
    });
    expect(loads([4, 4], [8], [[0]]).totalVariation).toBe(0.5);
    expect(loads([4, 4], [8], [[0, 1]]).totalVariation).toBe(0);
    const pruned = new RoutingFidelity(3, [[0], [1]], leavesOf(2));
    pruned.add(pair, 0);
    const { exactSet, load } = pruned.result();
    expect([exactSet, load!.totalVariation, load!.teacher.dead]).toEqual([0, 0.5, 2]);
    const again = new RoutingFidelity(3, [[0], [1]], leavesOf(2), pruned.sums());
    expect(again.result()).toEqual(pruned.result());
  });
  it("of a merged student", () => {
    const { kl, l1, overlap, klByExpert } = compareRouting(pair, [[0], [1, 2, 3]]);
    expect(kl[0]).toBeCloseTo(0, 6);
    expect(l1[0]).toBeCloseTo(0, 6);
    expect(overlap[0]).toBe(1);
    expect(klByExpert[1]).toBeCloseTo(0, 6);
  });
  it("of the teacher with itself is zero, and padding does not count", () => {
    const twice = {
      ...pair,
      numTokens: 2,
      teacherLogits: Float32Array.of(1, 2, 3, 4, 0, 0, 0, 9),
      studentLogits: Float32Array.of(1, 2, 3, 4, 9, 0, 0, 0),
      teacherSelected: Int32Array.of(2, 3, 0, 3),
      studentSelected: Int32Array.of(2, 3, 0, 3),
      valid: Uint8Array.of(1, 0),
    };
    const fidelity = new RoutingFidelity(3, [[0], [1], [2], [3]], leavesOf(2));
    fidelity.add(twice, 0);
    const row = fidelity.result();
    expect(row.routingKl).toBeCloseTo(0, 12);
    expect(row.l1).toBeCloseTo(0, 12);
    expect([row.topKOverlap, row.exactSet, row.load!.totalVariation]).toEqual([1, 1, 0]);
    expect(row.load!.student.dead).toBe(2);
    const pruned = new RoutingFidelity(3, [[0], [1]], leavesOf(2));
    pruned.add(pair, 0);
    expect(pruned.result().klByExpert.slice(2)).toEqual([null, null]);
  });
});
