import type { SparsityPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import {
  callOperations,
  noCost,
  outputErrorCost,
  touch,
  type LayerCost,
  type LayerCostShape,
  type MethodForecast,
} from "../cost/layerCost";
import { projections, projectionShape } from "../layer/expertMatrices";
import { uniformShares, validateSparseLayer } from "./sparsityPlan";

/** Plain-code operations to score, sort and zero one weight. */
const choose = 30;

export const magnitudeForecast: MethodForecast = {
  passes: () => 0,
  sequences: 0,
  layer: (shape) => ({ ...weightsCost(shape), float32: outputErrorCost(shape) }),
  anyPlan: anySparsityPlan,
};

/** Wanda and MoE-Pruner: norms of inputs and intermediate activations. */
export const wandaForecast: MethodForecast = {
  ...magnitudeForecast,
  passes: passesOf,
  sequences: 64,
  layer: (shape, options) => normsCost(shape, options),
};

export const sparseGptForecast: MethodForecast = {
  ...wandaForecast,
  layer: (shape, options) => {
    const { K, H, k, T, moe } = shape;
    const cost = normsCost(shape, options);
    const block = typeof options["block"] === "number" ? options["block"] : 128;
    for (const projection of projections) {
      const [m, n] = projectionShape({ ...moe, hiddenSize: H }, projection);
      cost.float32 += 2 * n * n * k * T;
      // Cholesky, the inverse of its factor, and the columns behind each block.
      cost.float64 += K * (n ** 3 + m * n * n);
      // Half of the weights leave, and each is taken out of half a block.
      cost.plain += K * ((m * n * Math.min(block, n)) / 4 + 4 * n * n + 4 * callOperations);
      cost.workingBytes = Math.max(cost.workingBytes, 8 * (4 * n * n + 3 * m * n));
    }
    return cost;
  },
};

function passesOf(options: CompressOptions["options"]): number {
  return isAdaptive(options) ? 2 : 1;
}

function isAdaptive({ adaptive }: CompressOptions["options"]): boolean {
  return adaptive !== undefined && adaptive !== "none";
}

function weightsCost({ K, weights }: LayerCostShape): LayerCost {
  return { ...noCost, plain: K * weights * (2 * touch + choose), workingBytes: 4 * 4 * weights };
}

function normsCost(shape: LayerCostShape, options: CompressOptions["options"]): LayerCost {
  const { k, T, H, I } = shape;
  const cost = weightsCost(shape);
  const times = isAdaptive(options) ? 2 : 1;
  cost.float32 = times * k * T * 2 * 2 * H * I + outputErrorCost(shape);
  cost.plain += times * k * T * (H + I) * 4 + (times - 1) * shape.K * shape.weights * (touch + choose);
  return cost;
}

/**
 * The size does not depend on which weights leave.
 * @throws RerouteError plan/invalid for a share or a pattern that the matrices cannot have
 */
function anySparsityPlan(description: ModelDescription, compress: CompressOptions): SparsityPlan {
  const pattern = compress.options["pattern"];
  const known = pattern === "2:4" || pattern === "4:8" ? pattern : "unstructured";
  const shares = uniformShares(description, compress, known);
  const plan: SparsityPlan = {
    ...{ schemaVersion: 1, paradigm: "sparsity", method: compress.method, pattern: known },
    layers: Object.fromEntries(Object.entries(shares).map(([layer, keep]) => [layer, { keep }])),
  };
  for (const { layer, moe } of moeLayers(description)) validateSparseLayer(plan, layer, moe, description.hiddenSize);
  return plan;
}
