import type { EditingPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { eigenOperations, subspaceRound } from "../cost/computeRates";
import {
  addCost,
  callOperations,
  noCost,
  numberOf,
  outputErrorCost,
  touch,
  type LayerCost,
  type LayerCostShape,
  type MethodForecast,
} from "../cost/layerCost";
import { projectionShape, projections, type Projection } from "../layer/expertMatrices";
import { plannedRanks } from "./editingPlan";
import { defaultBases } from "./ranks";

/** Rounds of a subspace iteration by energy, and products in each (linalg/leadingEigen): as seen on random weights. */
const subspaceRounds = 9;
const productsARound = 4;
/**
 * Rounds on weights times their inputs, whose spectrum falls: the filter is of degree 1, and gains less a round (15.6 counted
 * on an expert of 768 x 2048 that 256 of 4096 random tokens were routed to). The start takes about as long as a round.
 */
const weightedRounds = 16;
/** Directions iterated beyond those asked for (linalg/leadingEigen). */
const surplus = 16;

/** One projection [m, n] of all experts of a layer. */
interface ProjectionShape {
  projection: Projection;
  m: number;
  n: number;
  rank: number;
}
type ProjectionCost = (
  shape: LayerCostShape,
  projection: ProjectionShape,
  options: CompressOptions["options"],
) => LayerCost;

export const svdForecast = editForecast(0, svdCost);
/** SVD-LLM and D2-MoE: matrices weighted by their inputs. */
export const weightedSvdForecast = { ...editForecast(1, weightedSvdCost), iteratesSubspaces: true };
export const mobeForecast = editForecast(0, mobeCost);
export const tuckerForecast = editForecast(2, tuckerCost);

function editForecast(passes: number, ofProjection: ProjectionCost): MethodForecast {
  return {
    passes: () => passes,
    sequences: 64,
    layer: (shape, options) => {
      const { moe, K, H, weights, ranks } = shape;
      const cost = { ...noCost, plain: K * weights * touch * 2 };
      cost.float32 += outputErrorCost(shape);
      for (const projection of projections) {
        const [m, n] = projectionShape({ ...moe, hiddenSize: H }, projection);
        addCost(cost, ofProjection(shape, { projection, m, n, rank: ranks[projection] ?? 0 }, options));
      }
      return cost;
    },
    anyPlan: anyEditingPlan,
  };
}

function svdCost({ K }: LayerCostShape, { m, n, rank }: ProjectionShape): LayerCost {
  if (rank === 0) return noCost;
  const [small, large] = [Math.min(m, n), Math.max(m, n)];
  const block = rank + surplus;
  return {
    ...noCost,
    float64: K * (2 * small * small * large + 4 * rank * m * n) + K * subspace(small, block),
    // The last are Cholesky's panels.
    plain: K * 12 * callOperations + K * subspaceRounds * 3 * 48 * block ** 2,
    workingBytes: 8 * (4 * n * n + 6 * m * n),
  };
}

function weightedSvdCost(shape: LayerCostShape, { projection, m, n, rank }: ProjectionShape): LayerCost {
  if (rank === 0) return noCost;
  const { K } = shape;
  const [small, large] = [Math.min(m, n), Math.max(m, n)];
  const block = rank + surplus;
  const isDirect = small <= 256 || block > 0.8 * small;
  const cost = { ...noCost, plain: K * 12 * callOperations, workingBytes: 8 * (4 * n * n + 6 * m * n) };
  if (isDirect) cost.plain += K * eigenOperations(small);
  else cost.subspace += K * (1 + weightedRounds) * subspaceRound(small, block);
  // Wider than tall, the end is an eigenproblem.
  if (!isDirect && small !== m) cost.plain += K * eigenOperations(block);
  cost.float64 += K * (2 * small * small * large + 4 * rank * m * n);
  cost.float64 += K * (small === m ? 2 * m * n * n : n ** 3 + 2 * m * n * n) + K * gramProducts(shape, projection, n);
  return cost;
}

function mobeCost(
  { K, ranks }: LayerCostShape,
  { projection, m, n, rank }: ProjectionShape,
  options: CompressOptions["options"],
): LayerCost {
  if (rank === 0) return noCost;
  const bases = ranks[`${projection}.bases`] ?? defaultBases(K);
  const numbers = K * m * rank + bases * rank * n;
  const steps = typeof options["steps"] === "number" ? options["steps"] : 1000;
  const batches = Math.ceil(K / numberOf(options, "batch", 32));
  return {
    ...noCost,
    float32: steps * 6 * K * (m * rank * n + bases * rank * n),
    float64: K * 2 * m * n * (n + rank) + bases * subspace(n, rank + surplus),
    // Adam's update of every number, phi and its derivative on every expert's mixed basis, and the calls.
    plain:
      steps * (numbers * 8 + K * rank * n * 8 + batches * 8 * callOperations) + bases * eigenOperations(rank + surplus),
    workingBytes: 4 * (7 * numbers + K * m * n) + 8 * n * n * 4,
  };
}

/** Spectra for the plan and for the edit, cores of every expert, and two rounds of alternating updates. */
function tuckerCost(shape: LayerCostShape, { projection, m, n }: ProjectionShape): LayerCost {
  const { K, ranks } = shape;
  const [r2, r3] = [Math.min(m, ranks[`${projection}.outputs`] ?? 0), Math.min(n, ranks[`${projection}.inputs`] ?? 0)];
  if (r2 * r3 === 0) return noCost;
  const spectra = K * 2 * (m * n * n + m * m * n + m * n * n) + dense(m, r2).float64 + dense(n, r3).float64;
  const plainSpectra = dense(m, r2).plain + dense(n, r3).plain;
  const cores = K * 2 * (m * n * n + r2 * m * n + r2 * n * r3);
  const rounds = 2 * K * 2 * (3 * r2 * r3 * r3 + 2 * r2 * r2 * r3);
  return {
    float32: 0,
    subspace: 0,
    float64: 2 * spectra + cores + rounds + K * 2 * (m * r2 * r3 + m * r3 * n) + gramProducts(shape, projection, n),
    plain:
      K * 40 * callOperations +
      2 * plainSpectra +
      2 * (eigenOperations(r2) + eigenOperations(r3)) +
      K * (m * n * 10 + r2 * r3),
    workingBytes: 8 * (2 * K * r2 * r3 + 6 * n * n) + K * r2 * r3 * 4,
  };
}

/** Leading eigenpairs of a matrix: by products where few are wanted, in plain code where nearly all are. */
function dense(n: number, rank: number): { float64: number; plain: number } {
  const block = rank + surplus;
  if (block > 0.8 * n || n <= 256) return { float64: 0, plain: eigenOperations(n) };
  return { float64: subspace(n, block), plain: eigenOperations(block) };
}

function subspace(n: number, block: number): number {
  return subspaceRounds * (productsARound * 2 * block * n * n + 10 * block * block * n);
}

/** float64 work of one Gram matrix, counted from its float32 product. */
function gramProducts({ K, k, T, weights }: LayerCostShape, projection: Projection, n: number): number {
  const tokens = (T * k) / K + 64;
  return (
    tokens * 2 * n * n + (projection === "downProj" ? (tokens + Math.min(T, 2048)) * (2 * weights + 2 * n * n) : 0)
  );
}

/** Dense output has the size it had, whatever the ranks. */
function anyEditingPlan(description: ModelDescription, { method, keep, options }: CompressOptions): EditingPlan {
  const output = options["output"] === "factored" ? "factored" : "dense";
  const ranks = output === "dense" ? {} : plannedRanks(description, method, keep, options);
  return {
    ...{ schemaVersion: 1, paradigm: "editing", method, output },
    layers: Object.fromEntries(Object.entries(ranks).map(([layer, of]) => [layer, { ranks: of }])),
  };
}
