import { matrix, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { integerSteps, roundToGrid, type IntegerGrid, type IntegerMatrix } from "../../weights/roundIntegers";
import { inverseFactor } from "../sparsity/sparseGpt";

export interface GptqRequest {
  grid: IntegerGrid;
  /** Share of the mean diagonal added to the Hessian. */
  damp: number;
  /** Columns between two updates of all that are behind. */
  block: number;
}

/**
 * GPTQ (Frantar et al., arXiv 2210.17323) on W [rows, columns]. With H of the inputs, damped, and U upper triangular with
 * U^T U = H^-1, columns are rounded one after the other, and each error (w - w') / U_jj is taken out of the columns behind
 * along U_j. Columns are taken by falling H_jj ("static order"), while groups and scales are those of the stored order, fixed
 * by the weights before: nothing changes for who reads the result. Inputs that never fire (H_jj = 0) are rounded to nearest.
 */
export async function gptq(
  products: MatrixProducts,
  weights: Matrix,
  hessian: Matrix,
  { grid, damp, block }: GptqRequest,
): Promise<IntegerMatrix> {
  const { rows, columns: n } = weights;
  const { bits, group } = grid;
  const { scales, zeros } = integerSteps(weights.data, rows, n, grid);
  const order = fallingDiagonal(hessian);
  const upper = (await inverseFactor(products, damped(hessian, order, damp))).data;
  const work = permuted(weights, order);
  const codes = new Int8Array(rows * n);
  const groups = n / group;
  for (let from = 0; from < n; from += block) {
    const to = Math.min(n, from + block);
    const errors = matrix(rows, to - from);
    for (let row = 0; row < rows; row++) {
      const at = row * n;
      for (let j = from; j < to; j++) {
        const column = order[j]!;
        const g = row * groups + Math.floor(column / group);
        const [scale, zero] = [scales[g]!, zeros?.[g] ?? 0];
        const code = roundToGrid(work[at + j]!, scale, bits, zero);
        codes[at + column] = code;
        const error = (work[at + j]! - (code - zero) * scale) / upper[j * n + j]!;
        errors.data[row * errors.columns + j - from] = error;
        if (error !== 0) for (let c = j + 1; c < to; c++) work[at + c]! -= error * upper[j * n + c]!;
      }
    }
    if (to === n) break;
    const behind = matrix(to - from, n - to);
    for (let j = from; j < to; j++)
      behind.data.set(upper.subarray(j * n + to, (j + 1) * n), (j - from) * behind.columns);
    const update = (await products.multiply(errors, behind)).data;
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < behind.columns; c++) work[row * n + to + c]! -= update[row * behind.columns + c]!;
    }
  }
  return { rows, columns: n, bits, group, codes, scales, zeros };
}

/** tr(D H D^T) for D = weights - other: what the change costs in the outputs of the tokens that H is of. */
export async function outputLoss(
  products: MatrixProducts,
  weights: Matrix,
  other: ArrayLike<number>,
  hessian: Matrix,
): Promise<number> {
  const change = { ...weights, data: weights.data.map((value, i) => value - other[i]!) };
  const { data } = await products.multiply(change, hessian);
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! * change.data[i]!;
  return sum;
}

/** Columns by falling H_jj, equal ones as they are stored. */
function fallingDiagonal({ rows: n, data }: Matrix): Int32Array {
  const order = Array.from({ length: n }, (_, j) => j);
  return Int32Array.from(order.sort((a, b) => data[b * n + b]! - data[a * n + a]! || a - b));
}

function damped({ rows: n, data }: Matrix, order: Int32Array, damp: number): Matrix {
  const result = matrix(n, n);
  let diagonal = 0;
  for (let i = 0; i < n; i++) {
    const row = order[i]! * n;
    for (let j = 0; j < n; j++) result.data[i * n + j] = data[row + order[j]!]!;
    if (result.data[i * n + i] === 0) result.data[i * n + i] = 1;
    else diagonal += result.data[i * n + i]!;
  }
  for (let i = 0; i < n; i++) result.data[i * n + i]! += (damp * diagonal) / n;
  return result;
}

function permuted({ rows, columns: n, data }: Matrix, order: Int32Array): Float64Array {
  const result = new Float64Array(rows * n);
  for (let row = 0; row < rows; row++) for (let j = 0; j < n; j++) result[row * n + j] = data[row * n + order[j]!]!;
  return result;
}
