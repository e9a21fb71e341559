import { describe, expect, it } from "vitest";
import { compressOptions, type CompressOptions } from "../../../src/protocol/recipe";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { superExperts } from "../../../src/engine/compression/plan/superExperts";
import {
  emptyLayerStatistics,
  type LayerStatistics,
  type RoutingStatisticsData,
} from "../../../src/engine/routing/layerStatistics";
import type { GroupLimit } from "../../../src/engine/model/description";
import { describeLayers, type FakeLayer } from "./description";

/** Layer 1: experts 0..7; two domains to show that they are added. */
function statisticsOf(numLayers = 1): RoutingStatisticsData {
  const layers = Array.from({ length: numLayers }, (_, i): LayerStatistics => {
    const layer = emptyLayerStatistics({ layer: i + 1, numExperts: 8, numExpertsPerToken: 2, hiddenSize: 2 }, 2);
    layer.tokens.set([10, 10]);
    layer.frequency.set([4, 0, 1, 2, 8, 3, 1, 1, 0, 0, 1, 2, 8, 3, 0, 1]);
    layer.routingWeightSum.set([3, 0, 0.5, 1, 0.8, 1, 0.9, 1, 0, 0, 0.5, 1, 0.8, 1, 0, 1]);
    layer.outputNormSum.set([4, 0, 9, 2, 8, 3, 5, 1, 0, 0, 9, 2, 8, 3, 0, 1]);
    layer.weightedNormSum.set([2, 0, 4, 1, 4, 9, 1, 1, 0, 0, 4, 1, 4, 9, 0, 1]);
    layer.softmaxWeightedNormSum.set([8, 0, 0, 1, 4, 9, 1, 1, 0, 0, 0, 1, 4, 9, 0, 1]);
    layer.maxAbsoluteActivation.set([1, 0, 1, 1, 1, 1, 1, 50, 1, 0, 1, 1, 1, 1, 0, 1]);
    return layer;
  });
  return { checkpoint: "c", fingerprint: "f", domainNames: ["a", "b"], layers };
}

function plan(
  options: Partial<CompressOptions>,
  layers: FakeLayer[] = [{}],
  extra: { weightScores?: Map<number, Float64Array> } = {},
) {
  return makePruningPlan({
    description: describeLayers(...layers),
    fingerprint: "f",
    options: { ...compressOptions.parse({}), ...options },
    seed: 42,
    statistics: statisticsOf(layers.length),
    weightScores: extra.weightScores ?? null,
  });
}

const groups: GroupLimit = { numGroups: 4, topGroups: 2, score: "max" };
const groupsOfTwo: GroupLimit = { numGroups: 4, topGroups: 2, score: "sum-of-two" };

describe("kept experts of a hand-made layer", () => {
  // Routed tokens 4 0 2 4 16 6 1 2; REAP .5 - 4 .5 .5 3 1 1.
  const rows: [string, Partial<CompressOptions>, FakeLayer, number[]][] = [
    ["frequency", { method: "frequency", keep: 3 }, {}, [0, 4, 5]],
    ["weighted frequency, tie to the lower id", { method: "weighted-frequency", keep: 4 }, {}, [0, 3, 5, 7]],
    ["ean is a mean", { method: "ean", keep: 2 }, {}, [2, 6]],
    ["ean as a sum", { method: "ean", keep: 2, options: { reduction: "sum" } }, {}, [2, 4]],
    ["reap", { method: "reap", keep: 2 }, {}, [2, 5]],
    ["reap, ties to the lower id", { method: "reap", keep: 5 }, {}, [0, 2, 5, 6, 7]],
    ["reap with the authors' weights", { method: "reap", keep: 2, reapWeights: "softmax" }, {}, [0, 5]],
    ["0.625 of 8 is 5", { method: "reap", keep: 0.625 }, {}, [0, 2, 5, 6, 7]],
    ["never routed leaves first", { method: "reap", keep: 7 }, {}, [0, 2, 3, 4, 5, 6, 7]],
    ["everything", { method: "reap", keep: 1 }, {}, [0, 1, 2, 3, 4, 5, 6, 7]],
    ["super expert stays", { method: "frequency", keep: 2, protectSuperExperts: "all-layers" }, {}, [4, 7]],
    ["one from each group", { method: "reap", keep: 4 }, { groups }, [0, 2, 5, 6]],
    ["five rounded to a multiple of four", { method: "reap", keep: 0.625, multipleOf: 4 }, {}, [2, 5, 6, 7]],
    ["of two as near the smaller", { method: "reap", keep: 6, multipleOf: 4 }, {}, [2, 5, 6, 7]],
    ["five rounded to a multiple of three", { method: "reap", keep: 5, multipleOf: 3 }, {}, [0, 2, 3, 5, 6, 7]],
    ["a multiple that fits already", { method: "reap", keep: 0.5, multipleOf: 2 }, {}, [2, 5, 6, 7]],
    ["a multiple that groups share", { method: "reap", keep: 3, multipleOf: 2 }, { groups }, [0, 2, 5, 6]],
    ["share is rounded per group", { method: "reap", keep: 0.45 }, { groups }, [0, 2, 5, 6]],
  ];
  it.each(rows)("%s", (_name, options, layer, kept) => {
    expect(plan(options, [layer]).layers["1"]!.kept).toEqual(kept);
  });

  it("aimer drops the flattest experts and needs no data", () => {
    const weightScores = new Map([[1, Float64Array.of(0.8, 0.7, 0.75, 0.79, 0.6, 0.8, 0.5, 0.8)]]);
    const made = plan({ method: "aimer", keep: 5 }, [{}], { weightScores });
    expect(made.layers["1"]!.kept).toEqual([1, 2, 3, 4, 6]);
  });

  it("random is seeded and differs between layers", () => {
    const made = plan({ method: "random", keep: 4 }, [{}, {}, {}]);
    expect(plan({ method: "random", keep: 4 }, [{}, {}, {}])).toEqual(made);
    expect(new Set(Object.values(made.layers).map(({ kept }) => kept.join())).size).toBeGreaterThan(1);
  });

  it("says which experts were never routed, out of how many tokens", () => {
    const made = plan({ method: "reap", keep: 5 });
    expect(made.layers["1"]!.scores![1]).toBeNull();
    expect(made.notes!.join("\n")).toMatch(/layer 1: 1 of 8 experts never routed by 20 calibration tokens \(1\)/);
    expect(plan({ method: "reap", keep: 1 }).notes!.join("\n")).toMatch(
      /kept although no calibration token reached them: 1/,
    );
  });
});

describe("refused before any work", () => {
  const rows: [string, Partial<CompressOptions>, FakeLayer[], RegExp][] = [
    ["below top-k", { keep: 1 / 8 }, [{}], /leaves 1 of 8 experts in layer 1.*selects 2.*at least 2/],
    ["count above", { keep: 9 }, [{}], /asks for 9 experts.*has only 8/],
    ["fractional count", { keep: 2.5 }, [{}], /whole number/],
    ["not a multiple of the groups", { keep: 5 }, [{ groups }], /multiple of 4/],
    [
      "a multiple that drops none",
      { keep: 0.9, multipleOf: 4 },
      [{}],
      /leaves 7 of 8.*multiple of 4 is 8, which drops/,
    ],
    ["a multiple beyond all", { keep: 7, multipleOf: 9 }, [{}], /multiple of 9 is 9, which drops none of the 8/],
    ["a multiple below top-k", { keep: 4, multipleOf: 8 }, [{}], /multiple of 8 is 0, but the router .* selects 2/],
    ["a multiple in one layer of two", { keep: 0.9, multipleOf: 9 }, [{ numExperts: 20 }, {}], /of layer 2/],
    ["group score needs two", { keep: 4 }, [{ groups: groupsOfTwo }], /best two; keep at least 8/],
    ["groups too small for top-k", { keep: 4 }, [{ groups, topK: 3 }], /keep at least 8/],
    ["statistics of another model", {}, [{ numExperts: 16 }], /statistics hold 8 experts.*has 16/],
  ];
  it.each(rows)("%s", (_name, options, layers, message) => {
    expect(() => plan(options, layers)).toThrow(message);
    expect(() => plan(options, layers)).toThrow(expect.objectContaining({ code: "plan/invalid" }));
  });

  it("a method that needs text without text", () => {
    const request = {
      description: describeLayers({}),
      fingerprint: "f",
      seed: 1,
      statistics: null,
      weightScores: null,
    };
    const options = compressOptions.parse({ method: "reap" });
    expect(() => makePruningPlan({ ...request, options })).toThrow(
      expect.objectContaining({ code: "arguments/invalid" }),
    );
    const protecting = compressOptions.parse({ method: "random", protectSuperExperts: "all-layers" });
    expect(() => makePruningPlan({ ...request, options: protecting })).toThrow(/needs calibration text/);
  });
});

describe("super experts of four layers", () => {
  // Expert 6 of the last layer above all others, expert 7 of every layer next: only the first is above the percentile.
  const layers = statisticsOf(4).layers;
  layers[3]!.maxAbsoluteActivation[6] = 400;
  it("are those above the 99.5th percentile of all layers", () => {
    expect(superExperts(layers, "all-layers")).toEqual(new Map([[4, new Set([6])]]));
  });
  it("are looked for in the first 75 % of the layers, or not at all", () => {
    expect(superExperts(layers, "early-layers").size).toBe(0);
    expect(superExperts(layers, "off").size).toBe(0);
  });
  it("must be above a tenth of the largest activation", () => {
    const flat = statisticsOf(1).layers;
    flat[0]!.maxAbsoluteActivation.fill(1);
    expect(superExperts(flat, "all-layers").size).toBe(0);
  });
});
