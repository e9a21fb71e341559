import type { SparsityPattern } from "../../../protocol/plan";
import { cholesky, invertLower } from "../../linalg/cholesky";
import { matrix, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { leavingCount, lowest, lowestOfRuns, runOf } from "./masks";

export interface SparseGptRequest {
  keep: number;
  pattern: SparsityPattern;
  /** Share of the mean diagonal added to the Hessian. */
  damp: number;
  /** Columns compared and updated together; a multiple of a pattern's run. */
  block: number;
}

/**
 * SparseGPT (Frantar and Alistarh, arXiv 2301.00774) on W [rows, columns], in place. With H = X^T X of the inputs, damped, and
 * U upper triangular with U^T U = H^-1, columns are taken in order: a weight scores w^2 / U_jj^2; those that leave become zero
 * and their error w / U_jj is taken out of the columns behind along U_j. Within a block of columns the lowest share over all
 * rows leaves; a pattern chooses in each row at the first column of each run, by the weights as updated until then. Inputs
 * that never fire (H_jj = 0) lose their weights.
 *
 * Exactly the share leaves; the authors' threshold (score <= the share's quantile) takes one weight more in each block.
 */
export async function sparseGpt(
  products: MatrixProducts,
  weights: Matrix,
  gram: Matrix,
  { keep, pattern, damp, block }: SparseGptRequest,
): Promise<void> {
  const { rows, columns, data } = weights;
  const upper = (await inverseFactor(products, dampedHessian(weights, gram, damp))).data;
  const run = runOf(pattern);
  for (let from = 0; from < columns; from += block) {
    const to = Math.min(columns, from + block);
    const width = to - from;
    const leaves =
      run === 0 ? chosenInBlock(data, upper, { rows, columns, from, to, keep }) : new Uint8Array(rows * width);
    const errors = matrix(rows, width);
    for (let j = from; j < to; j++) {
      const pivot = upper[j * columns + j]!;
      const chooses = run > 0 && (j - from) % run === 0;
      for (let row = 0; row < rows; row++) {
        const at = row * columns;
        if (chooses) {
          const scores = Float64Array.from({ length: run }, (_, i) => scoreOf(data, upper, columns, row, j + i));
          leaves.set(lowestOfRuns(scores, run), row * width + j - from);
        }
        if (leaves[row * width + j - from] === 0) continue;
        const error = data[at + j]! / pivot;
        data[at + j] = 0;
        errors.data[row * width + j - from] = error;
        if (error === 0) continue;
        for (let c = j + 1; c < to; c++) data[at + c]! -= error * upper[j * columns + c]!;
      }
    }
    if (to === columns) return;
    const behind = matrix(width, columns - to);
    for (let j = from; j < to; j++)
      behind.data.set(upper.subarray(j * columns + to, (j + 1) * columns), (j - from) * behind.columns);
    const update = (await products.multiply(errors, behind)).data;
    for (let row = 0; row < rows; row++) {
      const [at, updated] = [row * columns + to, row * behind.columns];
      for (let c = 0; c < behind.columns; c++) data[at + c]! -= update[updated + c]!;
    }
  }
}

/** U upper triangular with U^T U = a^-1: from the Cholesky factor of `a` with rows and columns in reverse. */
export async function inverseFactor(products: MatrixProducts, a: Matrix): Promise<Matrix> {
  const reversed = { ...a, data: a.data.slice().reverse() };
  const { lower } = await cholesky(products, reversed);
  const inverse = await invertLower(products, lower);
  return { ...inverse, data: inverse.data.reverse() };
}

/** H with its diagonal raised; where an input never fires, its weights and its row of H become those of nothing. */
function dampedHessian({ rows, columns: n, data }: Matrix, gram: Matrix, damp: number): Matrix {
  const hessian = matrix(n, n, gram.data);
  let diagonal = 0;
  for (let j = 0; j < n; j++) {
    if (hessian.data[j * n + j] === 0) {
      hessian.data[j * n + j] = 1;
      for (let row = 0; row < rows; row++) data[row * n + j] = 0;
    }
    diagonal += hessian.data[j * n + j]!;
  }
  for (let j = 0; j < n; j++) hessian.data[j * n + j]! += (damp * diagonal) / n;
  return hessian;
}

function scoreOf(data: Float64Array, upper: Float64Array, columns: number, row: number, j: number): number {
  return (data[row * columns + j]! / upper[j * columns + j]!) ** 2;
}

function chosenInBlock(
  data: Float64Array,
  upper: Float64Array,
  { rows, columns, from, to, keep }: { rows: number; columns: number; from: number; to: number; keep: number },
): Uint8Array {
  const width = to - from;
  const scores = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let j = from; j < to; j++) scores[row * width + j - from] = scoreOf(data, upper, columns, row, j);
  }
  return lowest(scores, leavingCount(scores.length, keep));
}
