import type { CollectedLayer } from "../../execution/collectLayers";
import { solveSymmetric } from "../../linalg/cholesky";
import { matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { chunksOfExpert, type RoutedTokens } from "../layer/expertInputs";
import type { ExpertMatrices } from "../layer/expertMatrices";
import type { LayerEngine } from "../layer/layerEngine";

/** Of the mean diagonal, as MergeMoE's least squares. */
const ridge = 1e-6;

/**
 * The expert with the units `kept` (ascending): their gate and up rows with biases, and their down columns, in the first
 * places; zeros fill the others up to `width`.
 */
export function cutExpert(expert: ExpertMatrices, kept: readonly number[], width: number): ExpertMatrices {
  const { hiddenSize: H } = expert;
  const rows = (values: Float32Array, size: number): Float32Array => {
    const result = new Float32Array(width * size);
    kept.forEach((unit, i) => result.set(values.subarray(unit * size, (unit + 1) * size), i * size));
    return result;
  };
  return {
    ...expert,
    intermediateSize: width,
    gateProj: rows(expert.gateProj, H),
    upProj: rows(expert.upProj, H),
    gateBias: expert.gateBias && rows(expert.gateBias, 1),
    upBias: expert.upBias && rows(expert.upBias, 1),
    downProj: columnsOf(expert, kept, width),
  };
}

function columnsOf(
  { downProj, intermediateSize: I, hiddenSize: H }: ExpertMatrices,
  kept: readonly number[],
  width: number,
) {
  const result = new Float32Array(H * width);
  for (let row = 0; row < H; row++) {
    for (let i = 0; i < kept.length; i++) result[row * width + i] = downProj[row * I + kept[i]!]!;
  }
  return result;
}

/**
 * The down projection [H, width] whose output on the kept units is nearest to the original's over the tokens routed to the
 * expert, weighted by their squared routing weight: D = W G[:, K] (G[K, K] + r I)^-1 with G the Gram matrix of g h. Null where
 * fewer tokens than units that stay were seen, so that the fit would be of these alone.
 */
export async function repairedDown(
  { engine, products }: { engine: LayerEngine; products: MatrixProducts },
  collected: CollectedLayer,
  routed: RoutedTokens,
  expert: ExpertMatrices,
  kept: readonly number[],
  width: number,
): Promise<Float32Array | null> {
  const { intermediateSize: I, hiddenSize: H } = expert;
  const n = kept.length;
  if (routed.tokens.length < n) return null;
  const gram = new Float64Array(I * I);
  for await (const { intermediates, weights } of chunksOfExpert(engine, collected, routed, expert)) {
    for (let i = 0; i < intermediates.length; i++) intermediates[i]! *= weights[Math.floor(i / I)]!;
    await engine.addGram(intermediates, I, gram);
  }
  const among = matrix(n, n);
  const toAll = matrix(n, I);
  let diagonal = 0;
  kept.forEach((unit, i) => {
    toAll.data.set(gram.subarray(unit * I, (unit + 1) * I), i * I);
    kept.forEach((other, j) => (among.data[i * n + j] = gram[unit * I + other]!));
    diagonal += among.data[i * n + i]!;
  });
  if (diagonal === 0) return null;
  for (let i = 0; i < n; i++) among.data[i * n + i]! += (ridge * diagonal) / n;
  const weights = matrix(H, I, expert.downProj);
  // [n, H] = (G_KK)^-1 G_K: W^T
  const fitted = await solveSymmetric(products, among, await products.multiply(toAll, weights, false, true));
  const result = new Float32Array(H * width);
  for (let row = 0; row < H; row++) for (let i = 0; i < n; i++) result[row * width + i] = fitted.data[i * H + row]!;
  return result;
}
