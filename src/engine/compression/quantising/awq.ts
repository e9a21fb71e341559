import { matrix, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { dequantised, roundToNearest, type IntegerGrid } from "../../weights/roundIntegers";
import { outputLoss } from "./gptq";

/** Exponents tried: 0, 1/19, ..., 1. */
export const gridPoints = 20;
/** Scales of channels that never fire. */
const smallest = 1e-4;

/**
 * Scales of the channels of W [rows, columns] by which rounding to nearest loses least (AWQ, Lin et al., arXiv 2306.00978):
 * s_c = mean|x_c|^r, divided by the root of its largest times its smallest, for the exponent r of a grid at which
 * tr(D H D^T) with D = round(W s) / s - W is least. All ones where none is better than none.
 *
 * @param means [columns] mean|x_c|
 */
export async function channelScales(
  products: MatrixProducts,
  weights: Matrix,
  hessian: Matrix,
  means: ArrayLike<number>,
  grid: IntegerGrid,
): Promise<Float64Array> {
  let best: { loss: number; scales: Float64Array } = {
    loss: Infinity,
    scales: new Float64Array(weights.columns).fill(1),
  };
  for (let point = 0; point < gridPoints; point++) {
    const scales = scalesAt(means, weights.columns, point / (gridPoints - 1));
    const rounded = dequantised(
      roundToNearest(timesColumns(weights, scales).data, weights.rows, weights.columns, grid),
    );
    const back = rounded.map((value, i) => value / scales[i % weights.columns]!);
    const loss = await outputLoss(products, weights, back, hessian);
    if (loss < best.loss) best = { loss, scales };
  }
  return best.scales;
}

/** W with each column multiplied. */
export function timesColumns(weights: Matrix, scales: Float64Array): Matrix {
  return matrix(
    weights.rows,
    weights.columns,
    weights.data.map((value, i) => value * scales[i % weights.columns]!),
  );
}

/** Exponent 0 leaves every channel as it is. */
export function scalesAt(means: ArrayLike<number>, columns: number, exponent: number): Float64Array {
  const scales = Float64Array.from({ length: columns }, (_, c) => Math.max(smallest, means[c]!) ** exponent);
  let [low, high] = [Infinity, 0];
  for (const scale of scales) [low, high] = [Math.min(low, scale), Math.max(high, scale)];
  const middle = Math.sqrt(low * high);
  return scales.map((scale) => scale / middle);
}
