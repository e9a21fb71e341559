import { cholesky } from "../linalg/cholesky";
import { leadingEigen, orthonormalRows } from "../linalg/leadingEigen";
import { matrix, trace, type Matrix } from "../linalg/matrix";
import type { MatrixProducts } from "../linalg/products";
import { truncatedSvd } from "../linalg/truncatedSvd";

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
  const vectors = await leftVectors(products, weight, rank, gram, signal);
  return { left: transposed(vectors), right: await products.multiply(vectors, weight) };
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
  gram: Matrix | null,
  signal: AbortSignal | undefined,
): Promise<Matrix> {
  const options = { stop: "energy" as const, signal };
  if (gram === null || trace(gram) <= 0)
    return orthonormal(products, (await truncatedSvd(products, weight, rank, options)).left);
  if (weight.rows <= weight.columns) {
    const weighted = await products.multiply(weight, gram);
    return (await leadingEigen(products, await products.multiply(weighted, weight, false, true), rank, options))
      .vectors;
  }
  const { lower } = await cholesky(products, gram);
  const image = await products.multiply(weight, lower);
  const { vectors } = await leadingEigen(products, await products.gramOfColumns(image), rank, options);
  return orthonormal(products, await products.multiply(vectors, image, false, true));
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

function transposed({ rows, columns, data }: Matrix): Matrix {
  const result = matrix(columns, rows);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[i * columns + j]!;
  return result;
}
