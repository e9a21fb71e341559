import { z } from "zod";
import type { CompressOptions } from "../../../protocol/recipe";
import type { CompressionMethod } from "../../../protocol/methods";
import { ofDomain, overDomains, type LayerStatistics, type StatisticsField } from "../../routing/layerStatistics";
import type { MethodForecast } from "../cost/layerCost";
import { aimerForecast, scoredForecast } from "./forecast";

/** One way to score a layer's experts from what calibration tokens did there. */
export interface StatisticsCriterion {
  source: "statistics";
  keepEnd: "highest" | "lowest";
  /** [E]; only experts with a routed token are read. */
  score: (layer: LayerStatistics, options: CriterionOptions) => Float64Array;
  forecast: MethodForecast;
}

/** Scores come from elsewhere: the weights themselves (AIMER), or nowhere (random). */
export interface OtherCriterion {
  source: "weights" | "random";
  keepEnd: "highest" | "lowest";
  forecast: MethodForecast;
}

/** Of the criterion `ean` alone. */
export const eanOptions = z.object({
  reduction: z
    .enum(["mean", "sum"])
    .default("mean")
    .describe("Norms of an expert's outputs over the tokens routed to it. mean: their mean; sum: their sum"),
});

export type CriterionOptions = Pick<CompressOptions, "reapWeights" | "options">;
export type PruningCriterion = StatisticsCriterion | OtherCriterion;

/**
 * Pruning methods of the engine, as REAP's code base names them (arXiv 2510.13999). Over tokens routed to expert e:
 *   frequency            n_e
 *   weighted-frequency   sum g_e
 *   ean                  mean ||f_e||_2, or the sum with the option reduction = "sum"
 *   reap                 mean g_e ||f_e||_2
 *   easy-ep              sum over domains of (sum g_e ||f_e||_2 max(1 - cos(x, x + y), 0)) / its total in the layer
 *   aimer                mean|w| / rms(w) over the expert's weights; flat experts leave (arXiv 2603.18492)
 *   random               seeded
 */
export const pruningCriteria = {
  frequency: fromStatistics((layer) => overDomains(layer, "frequency")),
  "weighted-frequency": fromStatistics((layer) => overDomains(layer, "routingWeightSum")),
  ean: fromStatistics((layer, { options }) =>
    options.reduction === "sum" ? overDomains(layer, "outputNormSum") : perRoutedToken(layer, "outputNormSum"),
  ),
  reap: fromStatistics((layer, { reapWeights }) =>
    perRoutedToken(layer, reapWeights === "softmax" ? "softmaxWeightedNormSum" : "weightedNormSum"),
  ),
  "easy-ep": fromStatistics((layer) => {
    const domains = layer.tokens.length;
    const score = new Float64Array(layer.numRouterRows);
    for (let d = 0; d < domains; d++) {
      const sums = ofDomain(layer, "easyEpSum", d);
      const total = sums.reduce((sum, value) => sum + value, 0);
      if (total > 0) sums.forEach((value, e) => (score[e]! += value / total));
    }
    return score;
  }),
  aimer: { source: "weights", keepEnd: "lowest", forecast: aimerForecast },
  random: { source: "random", keepEnd: "highest", forecast: scoredForecast },
} satisfies Partial<Record<CompressionMethod, PruningCriterion>>;

export type PruningCriterionName = keyof typeof pruningCriteria;

/** Whether a method's plan is made by these criteria. */
export function isPruningCriterion(method: string): method is PruningCriterionName {
  return Object.hasOwn(pruningCriteria, method);
}

/** Which end of a plan's scores stays: every method that has none of these criteria scores by what an expert is worth. */
export function endOfScores(method: string): "highest" | "lowest" {
  return isPruningCriterion(method) ? pruningCriteria[method].keepEnd : "highest";
}

function fromStatistics(score: StatisticsCriterion["score"]): StatisticsCriterion {
  return { source: "statistics", keepEnd: "highest", score, forecast: scoredForecast };
}

function perRoutedToken(layer: LayerStatistics, field: StatisticsField): Float64Array {
  const frequency = overDomains(layer, "frequency");
  return overDomains(layer, field).map((sum, e) => sum / Math.max(1, frequency[e]!));
}
