import { cholesky, invertLower } from "./cholesky";
import { matrix, type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";

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
