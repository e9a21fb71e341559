import { leadingEigen, type LeadingEigenOptions } from "./leadingEigen";
import { type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";

/** a = sum_i singularValues_i left_i^T right_i, the largest `count` of them. */
export interface TruncatedSvd {
  singularValues: Float64Array;
  /** [count, rows]: one left singular vector a row. */
  left: Matrix;
  /** [count, columns]: one right singular vector a row; zeros where the singular value is 0. */
  right: Matrix;
}

/**
 * The largest singular triples, from the eigenpairs of the smaller Gram matrix. In float64 squaring costs nothing that
 * matters here: values below 1e-7 of the largest are not resolved.
 */
export async function truncatedSvd(
  products: MatrixProducts,
  a: Matrix,
  count: number,
  options: LeadingEigenOptions = {},
): Promise<TruncatedSvd> {
  const tall = a.rows > a.columns;
  const gram = tall ? await products.gramOfColumns(a) : await products.gramOfRows(a);
  const { values, vectors } = await leadingEigen(products, gram, count, options);
  const singularValues = values.map((value) => Math.sqrt(Math.max(0, value)));
  const other = await products.multiply(vectors, a, false, tall);
  const floor = (singularValues[0] ?? 0) * 1e-12;
  for (let i = 0; i < other.rows; i++) {
    const factor = singularValues[i]! > floor ? 1 / singularValues[i]! : 0;
    for (let j = 0; j < other.columns; j++) other.data[i * other.columns + j]! *= factor;
  }
  return tall ? { singularValues, left: other, right: vectors } : { singularValues, left: vectors, right: other };
}
