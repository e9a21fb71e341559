import type { SimilarityMetric } from "../../protocol/panels";
import { expertFrequency, type LayerStatistics } from "./layerStatistics";

/**
 * [R, R] cosine of router-logit columns over all profiled tokens: G_ij / sqrt(G_ii G_jj), G = sum z z^T (M-SMoE).
 * NaN in rows and columns whose logits were always 0.
 */
export function routerLogitCosine(layer: LayerStatistics): Float64Array {
  return pairwise(layer.numRouterRows, routerLogitPair(layer));
}

function routerLogitPair({ logitGram: G, numRouterRows: E }: LayerStatistics): Pair {
  return (i, j) => G[i * E + j]! / Math.sqrt(G[i * E + i]! * G[j * E + j]!);
}

/** [E, E] cosine of the experts' mean outputs over their routed tokens; NaN for experts without any. */
export function outputCosine(layer: LayerStatistics): Float64Array {
  return pairwise(layer.numExperts, outputCosinePair(layer));
}

function outputCosinePair(layer: LayerStatistics): Pair {
  const { numExperts: E, hiddenSize: H } = layer;
  const means = meanOutputs(layer);
  const dot: Pair = (i, j) => {
    let sum = 0;
    for (let h = 0; h < H; h++) sum += means[i * H + h]! * means[j * H + h]!;
    return sum;
  };
  const squares = Float64Array.from({ length: E }, (_, e) => dot(e, e));
  return (i, j) => dot(i, j) / Math.sqrt(squares[i]! * squares[j]!);
}

/** [E, E] Euclidean distance of mean outputs, in the hidden state's units (HC-SMoE); NaN for experts without tokens. */
export function outputDistance(layer: LayerStatistics): Float64Array {
  return pairwise(layer.numExperts, outputDistancePair(layer));
}

function outputDistancePair(layer: LayerStatistics): Pair {
  const { hiddenSize: H } = layer;
  const means = meanOutputs(layer);
  return (i, j) => {
    let sum = 0;
    for (let h = 0; h < H; h++) sum += (means[i * H + h]! - means[j * H + h]!) ** 2;
    return Math.sqrt(sum);
  };
}

/** [E, H] mean output over routed tokens; NaN rows for experts without any. */
export function meanOutputs(layer: LayerStatistics): Float64Array {
  const frequency = expertFrequency(layer);
  return layer.outputSum.map((sum, i) => {
    const tokens = frequency[Math.floor(i / layer.hiddenSize)]!;
    return tokens > 0 ? sum / tokens : NaN;
  });
}

/** One metric's matrix, square over router rows or over experts, or null where the profile does not hold it. */
export function similarityMatrix(layer: LayerStatistics, metric: SimilarityMetric): Float64Array | null {
  switch (metric) {
    case "router-logit-cosine":
      return layer.missing?.has("logitGram") ? null : routerLogitCosine(layer);
    case "output-cosine":
      return hasOutputs(layer) ? outputCosine(layer) : null;
    case "output-distance":
      return hasOutputs(layer) ? outputDistance(layer) : null;
    case "weight-cosine":
      return layer.weightCosine;
  }
}

/** Row `i` of {@link similarityMatrix}, without the rest of it. */
export function similarityRow(layer: LayerStatistics, metric: SimilarityMetric, i: number): Float64Array | null {
  const row = (length: number, pair: Pair) =>
    Float64Array.from({ length }, (_, j) => (j < i ? pair(j, i) : pair(i, j)));
  const { numExperts: E } = layer;
  switch (metric) {
    case "router-logit-cosine":
      return layer.missing?.has("logitGram") ? null : row(layer.numRouterRows, routerLogitPair(layer));
    case "output-cosine":
      return hasOutputs(layer) ? row(E, outputCosinePair(layer)) : null;
    case "output-distance":
      return hasOutputs(layer) ? row(E, outputDistancePair(layer)) : null;
    case "weight-cosine":
      return layer.weightCosine?.slice(i * E, (i + 1) * E) ?? null;
  }
}

/** Distance for clustering: 1 - cosine, or the distance itself. Pairs without a value are as far apart as any pair. */
export function toDistances(matrix: Float64Array, metric: SimilarityMetric, n: number): Float64Array {
  const distances = metric === "output-distance" ? Float64Array.from(matrix) : matrix.map((cosine) => 1 - cosine);
  const farthest = distances.reduce((most, d) => (Number.isFinite(d) && d > most ? d : most), 0);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (i === j) distances[i * n + j] = 0;
      else if (!Number.isFinite(distances[i * n + j]!)) distances[i * n + j] = farthest;
    }
  }
  return distances;
}

function hasOutputs(layer: LayerStatistics): boolean {
  return layer.outputNormSum.some((sum) => sum > 0);
}

/** The value of two experts or router rows, i <= j. */
type Pair = (i: number, j: number) => number;

/** Fills a symmetric [n, n] matrix from its upper triangle. */
function pairwise(n: number, value: Pair): Float64Array {
  const matrix = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = i; j < n; j++) {
      const v = value(i, j);
      matrix[i * n + j] = v;
      matrix[j * n + i] = v;
    }
  }
  return matrix;
}
