import { paradigmOf, type CompressionMethod } from "../../../protocol/methods";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { plannedRanks } from "../editing/editingPlan";
import { forecastOf } from "../methods";
import { keptCount } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import type { ComputeRates } from "./computeRates";
import { addCost, noCost, numberOf, type LayerCost } from "./layerCost";

/** What a method does beyond profiling and writing: operations of each kind, and the largest it holds at once. */
export interface MethodCost extends LayerCost {
  /** Passes of calibration text through the whole model, in tokens. */
  passTokens: number;
}

/**
 * Adds up what a method says of each layer, to leading order, from the shapes alone. Constants were set on one layer shaped
 * like Qwen3-30B-A3B's (`npm run bench methods` prints how far off they are); searches and iterations that depend on the
 * weights are counted as on random ones.
 */
export function methodCost(
  { method, keep, multipleOf, options }: CompressOptions,
  description: ModelDescription,
  tokens: { sequences: number; sequenceLength: number },
): MethodCost {
  const forecast = forecastOf(method);
  const passes = forecast.passes(options, description);
  const sequences = Math.min(tokens.sequences, numberOf(options, "sequences", forecast.sequences));
  const T = passes > 0 ? sequences * tokens.sequenceLength : 0;
  const paradigm = paradigmOf(method);
  const dropsExperts = paradigm === "pruning" || paradigm === "merging";
  const ranks = paradigm === "editing" ? plannedRanks(description, method, keep, options) : {};
  const cost: MethodCost = { ...noCost, passTokens: passes * T };
  for (const { layer, moe } of moeLayers(description)) {
    const { numExperts: K, numExpertsPerToken: k, intermediateSize: I } = moe;
    const H = description.hiddenSize;
    const kept = dropsExperts ? keptCount({ keep, multipleOf }, layer, moe) : K;
    const shape = { moe, layer, K, H, I, k, kept, T, weights: 3 * H * I, ranks: ranks[String(layer)] ?? {} };
    addCost(cost, forecast.layer(shape, options));
  }
  return cost;
}

/** Whether a method's cost has rounds of subspace iterations, whose rate is measured only then. */
export function iteratesSubspaces(method: CompressionMethod): boolean {
  return forecastOf(method).iteratesSubspaces ?? false;
}

/** Seconds of a method's own work at measured rates. */
export function secondsOf({ float32, float64, plain, subspace }: LayerCost, rates: ComputeRates): number {
  return (
    float32 / rates.float32 +
    float64 / rates.float64 +
    plain / rates.plain +
    subspace / (rates.subspace ?? rates.float64)
  );
}
