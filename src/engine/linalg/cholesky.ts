import { RerouteError } from "../../protocol/errors";
import { identity, matrix, rowsOf, type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";

/** Columns factorised in plain code between two updates on the engine. */
const panel = 96;

/**
 * Lower triangular L with L L^T = a, blocked so that the trailing updates are products on the engine. Where `a` is not
 * positive definite, a multiple of the identity is added, starting at 1e-12 of its mean diagonal, until it is.
 *
 * @returns L and the shift that was needed (0 for a positive definite matrix)
 * @throws RerouteError checkpoint/not-finite for NaN or infinity
 */
export async function cholesky(products: MatrixProducts, a: Matrix): Promise<{ lower: Matrix; shift: number }> {
  const n = a.rows;
  let diagonal = 0;
  for (let i = 0; i < n; i++) diagonal += a.data[i * n + i]!;
  if (!Number.isFinite(diagonal) || a.data.some((value) => !Number.isFinite(value))) {
    throw new RerouteError("checkpoint/not-finite", "A Gram matrix holds NaN or infinity and cannot be factorised");
  }
  const scale = diagonal > 0 ? diagonal / n : 1;
  for (let shift = 0; ; shift = shift === 0 ? 1e-12 * scale : shift * 10) {
    const lower = await tryFactorise(products, a, shift);
    if (lower !== null) return { lower, shift };
  }
}

async function tryFactorise(products: MatrixProducts, a: Matrix, shift: number): Promise<Matrix | null> {
  const n = a.rows;
  const work = Float64Array.from(a.data);
  for (let i = 0; i < n; i++) work[i * n + i]! += shift;
  for (let from = 0; from < n; from += panel) {
    const to = Math.min(n, from + panel);
    if (!factorisePanel(work, n, from, to)) return null;
    if (to === n) break;
    // Trailing update: A22 -= L21 L21^T.
    const below = columnsOf(work, n, to, from, to);
    const update = await products.multiply(below, below, false, true);
    const size = n - to;
    for (let i = 0; i < size; i++) {
      const row = (to + i) * n + to;
      for (let j = 0; j <= i; j++) work[row + j]! -= update.data[i * size + j]!;
    }
  }
  for (let i = 0; i < n; i++) work.fill(0, i * n + i + 1, (i + 1) * n);
  return { rows: n, columns: n, data: work };
}

/** Columns [from, to) of L, all rows below included; false where a pivot is not positive. */
function factorisePanel(work: Float64Array, n: number, from: number, to: number): boolean {
  for (let j = from; j < to; j++) {
    let pivot = work[j * n + j]!;
    for (let p = from; p < j; p++) pivot -= work[j * n + p]! ** 2;
    if (!(pivot > 0)) return false;
    const root = Math.sqrt(pivot);
    work[j * n + j] = root;
    for (let i = j + 1; i < n; i++) {
      let sum = work[i * n + j]!;
      for (let p = from; p < j; p++) sum -= work[i * n + p]! * work[j * n + p]!;
      work[i * n + j] = sum / root;
    }
  }
  return true;
}

/** The inverse of a lower triangular matrix, by halves: [[A, 0], [C, B]]^-1 = [[A', 0], [-B' C A', B']]. */
export async function invertLower(products: MatrixProducts, lower: Matrix): Promise<Matrix> {
  const n = lower.rows;
  if (n <= panel) return invertSmall(lower);
  const half = Math.floor(n / 2);
  const top = await invertLower(products, block(lower, 0, half, 0, half));
  const bottom = await invertLower(products, block(lower, half, n, half, n));
  const middle = await products.multiply(await products.multiply(bottom, block(lower, half, n, 0, half)), top);
  const result = matrix(n, n);
  for (let i = 0; i < half; i++) result.data.set(top.data.subarray(i * half, (i + 1) * half), i * n);
  for (let i = 0; i < n - half; i++) {
    const row = (half + i) * n;
    for (let j = 0; j < half; j++) result.data[row + j] = -middle.data[i * half + j]!;
    result.data.set(bottom.data.subarray(i * (n - half), (i + 1) * (n - half)), row + half);
  }
  return result;
}

function invertSmall({ rows: n, data }: Matrix): Matrix {
  const result = identity(n);
  for (let i = 0; i < n; i++) {
    for (let p = 0; p < i; p++) {
      const factor = data[i * n + p]!;
      if (factor === 0) continue;
      for (let j = 0; j <= p; j++) result.data[i * n + j]! -= factor * result.data[p * n + j]!;
    }
    for (let j = 0; j <= i; j++) result.data[i * n + j]! /= data[i * n + i]!;
  }
  return result;
}

/** x with a x = b for a symmetric positive (semi-)definite a; see cholesky for what happens to a singular one. */
export async function solveSymmetric(products: MatrixProducts, a: Matrix, b: Matrix): Promise<Matrix> {
  const inverse = await invertLower(products, (await cholesky(products, a)).lower);
  return products.multiply(inverse, await products.multiply(inverse, b), true, false);
}

function block(m: Matrix, fromRow: number, toRow: number, fromColumn: number, toColumn: number): Matrix {
  const rows = rowsOf(m, fromRow, toRow);
  return columnsOf(rows.data, m.columns, 0, fromColumn, toColumn);
}

function columnsOf(data: Float64Array, width: number, fromRow: number, from: number, to: number): Matrix {
  const rows = data.length / width - fromRow;
  const result = matrix(rows, to - from);
  for (let i = 0; i < rows; i++) {
    const row = (fromRow + i) * width;
    result.data.set(data.subarray(row + from, row + to), i * (to - from));
  }
  return result;
}

/** Orthonormal rows spanning the rows given: unit length first, then twice Gram matrix, Cholesky, inverse (CholeskyQR2). */
export async function orthonormalRows(products: MatrixProducts, rows: Matrix): Promise<Matrix> {
  let result = unitRows(rows);
  // Nearly dependent rows need a shift, and then one pass more: at most four.
  for (let pass = 0, clean = 0; pass < 4 && clean < 2; pass++) {
    const { lower, shift } = await cholesky(products, await products.gramOfRows(result));
    result = await products.multiply(await invertLower(products, lower), result);
    if (shift < 1e-9) clean++;
  }
  return result;
}

function unitRows({ rows, columns, data }: Matrix): Matrix {
  const result = matrix(rows, columns, data);
  for (let i = 0; i < rows; i++) {
    const row = result.data.subarray(i * columns, (i + 1) * columns);
    const norm = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));
    if (norm > 0) for (let j = 0; j < columns; j++) row[j]! /= norm;
  }
  return result;
}
