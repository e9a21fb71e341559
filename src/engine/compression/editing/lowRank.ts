import { cholesky, orthonormalRows } from "../../linalg/cholesky";
import { leadingSubspace } from "../../linalg/leadingEigen";
import { matrix, trace, transpose, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import { truncatedSvd } from "../../linalg/truncatedSvd";

/** W close to left right, [m, r] and [r, n]. */
export interface LowRank {
  left: Matrix;
  right: Matrix;
}

/**
 * The best approximation of rank r: of W itself, or of what W does to inputs with Gram matrix `gram` = X^T X, that is the
 * minimum of ||(W - W') X^T||_F (SVD-LLM, arXiv 2403.07378 and 2503.12340). All square roots of the Gram matrix give the
 * same minimum: W' = U U^T W with U the leading left singular vectors of W G^(1/2), so no inverse is taken and a singular
 * Gram matrix does no harm.
 */
export async function lowRank(
  products: MatrixProducts,
  weight: Matrix,
  rank: number,
  gram: Matrix | null,
  signal?: AbortSignal,
): Promise<LowRank> {
  if (gram === null || trace(gram) <= 0) return plain(products, weight, rank, signal);
  const vectors = await leftVectors(products, weight, rank, gram, signal);
  return { left: transpose(vectors), right: await products.multiply(vectors, weight) };
}

/** From the smaller side: U U^T W or W V V^T, the same matrix. */
async function plain(
  products: MatrixProducts,
  weight: Matrix,
  rank: number,
  signal: AbortSignal | undefined,
): Promise<LowRank> {
  if (weight.rows <= weight.columns) {
    const u = await leadingSubspace(products, await products.gramOfRows(weight), rank, { signal });
    return { left: transpose(u), right: await products.multiply(u, weight) };
  }
  const v = await leadingSubspace(products, await products.gramOfColumns(weight), rank, { signal });
  return { left: await products.multiply(weight, v, false, true), right: v };
}

/** left right */
export async function denseOf(products: MatrixProducts, { left, right }: LowRank): Promise<Matrix> {
  return products.multiply(left, right);
}

/** Leading left singular vectors of W G^(1/2), one a row. */
async function leftVectors(
  products: MatrixProducts,
  weight: Matrix,
  rank: number,
  gram: Matrix,
  signal: AbortSignal | undefined,
): Promise<Matrix> {
  if (weight.rows <= weight.columns) {
    const weighted = await products.multiply(weight, gram);
    return leadingSubspace(products, await products.multiply(weighted, weight, false, true), rank, { signal });
  }
  const { lower } = await cholesky(products, gram);
  const image = await products.multiply(weight, lower);
  const { left } = await truncatedSvd(products, image, rank, { stop: "energy", signal });
  return orthonormal(products, left);
}

/** Rows of a matrix of lower rank than asked for hold zeros, which stay zeros. */
async function orthonormal(products: MatrixProducts, rows: Matrix): Promise<Matrix> {
  const alive = Array.from({ length: rows.rows }, (_, i) => i).filter((i) =>
    rows.data.subarray(i * rows.columns, (i + 1) * rows.columns).some((value) => value !== 0),
  );
  if (alive.length === 0) return rows;
  const kept = matrix(alive.length, rows.columns);
  alive.forEach((i, at) =>
    kept.data.set(rows.data.subarray(i * rows.columns, (i + 1) * rows.columns), at * rows.columns),
  );
  const done = await orthonormalRows(products, kept);
  const result = matrix(rows.rows, rows.columns);
  result.data.set(done.data);
  return result;
}
