import type { CompressOptions } from "../../../protocol/recipe";
import {
  addCost,
  callOperations,
  noCost,
  outputErrorCost,
  touch,
  type LayerCost,
  type LayerCostShape,
  type MethodForecast,
} from "../cost/layerCost";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { projections, projectionShape } from "../layer/expertMatrices";
import { searchPasses } from "../budgets/searchPasses";
import { uniformPlan } from "./quantisationPlan";

/** Plain-code operations to round and pack one weight. */
const round = 40;
/** Exponents that AWQ tries. */
const tries = 20;

/** Rounding to nearest, whatever the format: weights alone. */
export const nearestForecast: MethodForecast = {
  passes: () => 0,
  sequences: 0,
  layer: ({ K, weights }, options) => ({
    ...noCost,
    plain: K * weights * (touch + round + searchCost(options)),
    workingBytes: 3 * 4 * weights,
  }),
  anyPlan: uniformPlan,
};

export const gptqForecast: MethodForecast = {
  ...nearestForecast,
  passes: (options, description) =>
    options["allocate"] === "loss"
      ? 1 + effectPasses(options, description)
      : (measuresWidths(options) ? 2 : 1) + (options["allocate"] === "evoesap" ? searchPasses(options, 64) : 0),
  sequences: 64,
  layer: (shape, options) => {
    const { K, H } = shape;
    const cost = hessianCost(shape);
    if (measuresWidths(options)) addCost(cost, widthsCost(shape, options));
    const block = typeof options["block"] === "number" ? options["block"] : 128;
    for (const projection of projections) {
      const [m, n] = projectionShape({ ...shape.moe, hiddenSize: H }, projection);
      // Cholesky and the inverse of its factor; the columns behind each block; both losses.
      cost.float64 += K * (n ** 3 + m * n * n + 2 * 2 * m * n * n);
      cost.plain +=
        K * (m * n * (Math.min(block, n) / 2 + 2 * (round + searchCost(options))) + 6 * n * n + 6 * callOperations);
      cost.workingBytes = Math.max(cost.workingBytes, 8 * (6 * n * n + 6 * m * n));
    }
    return cost;
  },
};

export const awqForecast: MethodForecast = {
  ...gptqForecast,
  layer: (shape, options) => {
    const { K, H, I, weights } = shape;
    const cost = hessianCost(shape);
    if (measuresWidths(options)) addCost(cost, widthsCost(shape, options));
    cost.float64 += (tries + 2) * K * 2 * H * I * I;
    cost.plain +=
      K *
      (tries * H * I * (round + 12 + searchCost(options)) +
        weights * (round + searchCost(options)) +
        tries * callOperations);
    cost.workingBytes = Math.max(cost.workingBytes, 8 * (4 * I * I + 6 * H * I));
    if (options["gateUp"] === true) {
      cost.plain += K * 2 * H * I * (tries * (round + 12 + searchCost(options)) + touch);
      cost.float64 += 2 * 2 * K * 2 * H * H * I;
      cost.workingBytes = Math.max(cost.workingBytes, 8 * (2 * H * H + 6 * H * I));
    }
    return cost;
  },
};

/** Plain-code operations a weight that searching scales takes: as many roundings as there are scales to try. */
function searchCost({ scale = "max" }: CompressOptions["options"]): number {
  return scale === "max" ? 0 : tries * round;
}

function measuresWidths({ allocate }: CompressOptions["options"]): boolean {
  return allocate !== undefined && allocate !== "none";
}

/** The layers from each one on, at each width, for the layer or for each of its experts; and three passes of the whole model. */
function effectPasses(options: CompressOptions["options"], description: ModelDescription): number {
  const { length } = description.layers;
  return moeLayers(description).reduce(
    (sum, { layer, moe }) =>
      sum +
      (numberOfWidths(options) * (options["granularity"] === "expert" ? moe.numExperts : 1) * (length - layer)) /
        length,
    3,
  );
}

function numberOfWidths({ widths }: CompressOptions["options"]): number {
  return typeof widths === "string" ? widths.split(",").length : 4;
}

/** Hessians once more, and the widths rounded and weighed; or their codes alone, where the model itself is run with them. */
function widthsCost(shape: LayerCostShape, options: CompressOptions["options"]): LayerCost {
  const { K, H, I, weights } = shape;
  const staged = numberOfWidths(options) * K * weights * (touch + round + searchCost(options));
  if (options["allocate"] === "loss") return { ...noCost, plain: staged };
  const cost = hessianCost(shape);
  if (options["allocate"] === "evoesap") cost.plain += staged;
  cost.float64 += 4 * K * (2 * 2 * H * H * I + 2 * H * I * I);
  cost.plain += 4 * K * (weights * round + 3 * callOperations);
  return cost;
}

/** Hessians of both kinds, the layer's own among them, and the output error. */
function hessianCost({ K, H, I, k, T, weights }: LayerCostShape): LayerCost {
  const shared = Math.min(T, 2048);
  return {
    ...noCost,
    float32:
      k * T * (2 * (H * H + I * I) + 2 * 2 * H * I) +
      2 * T * H * H +
      K * shared * (2 * I * I + 2 * 2 * H * I) +
      outputErrorCost({ k, T, weights }),
    plain: K * weights * touch + k * T * (H + I) * 6,
    workingBytes: 8 * 3 * (H * H + I * I) + 3 * 4 * weights,
  };
}
