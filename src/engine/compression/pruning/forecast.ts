import type { PruningPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { candidates } from "../budgets/evolution";
import { budgetOf, searchesBudgets } from "../budgets/expertCounts";
import { searchSequences } from "../budgets/searchOptions";
import { noCost, numberOf, touch, type LayerCost, type LayerCostShape, type MethodForecast } from "../cost/layerCost";
import { keptAnyhow } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";

/** Scores come from the profile, or from nowhere. */
export const scoredForecast: MethodForecast = {
  // A search runs the text once for each candidate, and once for the unpruned model.
  passes: (options) => {
    if (!searchesBudgets(options)) return 0;
    const { population, generations } = budgetOf({ options });
    return 1 + candidates(population, generations);
  },
  sequences: searchSequences,
  layer: () => noCost,
  anyPlan: (description, compress) => anyPruningPlan(description, compress),
};

/** AIMER reads every weight. */
export const aimerForecast: MethodForecast = {
  ...scoredForecast,
  layer: ({ K, weights }) => ({ ...noCost, plain: K * weights * touch }),
};

export const moneForecast: MethodForecast = {
  ...scoredForecast,
  passes: () => 0,
  anyPlan: (description, compress) => anyPruningPlan(description, compress, { replaceByConstant: true }),
};

export const naeeForecast = searchForecast(removals);
export const cfesForecast = searchForecast(({ K, kept }) => K + (K - kept) * Math.ceil(Math.sqrt(K)));

/** Without each expert of each layer, the layers from that one on run again; locally, a search among all experts' outputs. */
export const ablationForecast: MethodForecast = {
  ...scoredForecast,
  passes: ({ effect }, description) => {
    if (effect === "local") return 1;
    const { length } = description.layers;
    return moeLayers(description).reduce(
      (sum, { layer, moe }) => sum + (moe.numExperts * (length - layer)) / length,
      3,
    );
  },
  sequences: 16,
  layer: (shape, options) => {
    const { effect, interactions } = options;
    if (effect !== "local") return noCost;
    return searchCost(options, shape, interactions === "greedy" ? removals(shape) : shape.K);
  },
  lighter: [{ effect: "local", maxTokens: 1024 }],
};

/** @param evaluations sets of experts that are looked at */
function searchForecast(evaluations: (shape: LayerCostShape) => number): MethodForecast {
  return {
    ...scoredForecast,
    passes: () => 1,
    sequences: 32,
    layer: (shape, options) => searchCost(options, shape, evaluations(shape)),
    lighter: [{ maxTokens: 1024 }, { maxTokens: 256 }],
  };
}

/** Every expert on the sampled tokens, then one selection and one weighted sum for each set that is looked at. */
function searchCost(
  options: CompressOptions["options"],
  { K, H, k, T, weights }: LayerCostShape,
  evaluations: number,
): LayerCost {
  const tokens = Math.min(T, numberOf(options, "maxTokens", 2048));
  const columns = Math.min(H, 256);
  return {
    float32: K * tokens * (2 * weights + 2 * H * columns),
    float64: 0,
    subspace: 0,
    plain: K * weights * touch + evaluations * tokens * (12 * K + (k + 4) * 2 * columns),
    workingBytes: K * tokens * columns * 4,
  };
}

/** Sets that leaving one by one looks at. */
function removals({ K, kept }: LayerCostShape): number {
  return (K * (K + 1) - kept * (kept + 1)) / 2;
}

function anyPruningPlan(
  description: ModelDescription,
  compress: CompressOptions,
  more: { replaceByConstant?: true } = {},
): PruningPlan {
  const layers = Object.entries(keptAnyhow(description, compress)).map(([layer, kept]) => [layer, { kept, ...more }]);
  return {
    ...{ schemaVersion: 1, paradigm: "pruning", method: compress.method },
    layers: Object.fromEntries(layers) as PruningPlan["layers"],
  };
}
