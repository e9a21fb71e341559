import { cholesky, invertLower, orthonormalRows } from "./cholesky";
import { matrix, randomMatrix, rowsOf, type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";
import { symmetricEigen } from "./symmetricEigen";

/** Rounds of inverse iteration, in twice as many directions as asked for, of which a small eigenproblem finds the smallest. */
const rounds = 12;

/**
 * A basis without the directions of the smallest eigenvalues of projected = basis a basis^T: those come from inverse
 * iteration, and Householder reflections turn them into the first rows, which are cut off. Cheaper than all eigenpairs.
 * @returns orthonormal rows, `count` fewer
 */
export async function withoutSmallest(
  products: MatrixProducts,
  basis: Matrix,
  projected: Matrix,
  count: number,
): Promise<Matrix> {
  if (count === 0) return basis;
  const size = projected.rows;
  const inverse = await invertLower(products, (await cholesky(products, projected)).lower);
  let smallest = randomMatrix(Math.min(size, 2 * count), size, 7);
  for (let round = 0; round < rounds; round++) {
    const halfway = await products.multiply(smallest, inverse, false, true);
    smallest = await orthonormalRows(products, await products.multiply(halfway, inverse));
  }
  const among = await products.multiply(await products.multiply(smallest, projected), smallest, false, true);
  const { vectors } = symmetricEigen(among);
  smallest = await products.multiply(rowsOf(vectors, vectors.rows - count, vectors.rows), smallest);
  const turned = matrix(basis.rows, basis.columns, basis.data);
  for (let i = 0; i < count; i++) {
    const v = reflector(smallest, i);
    if (v === null) continue;
    for (let j = i + 1; j < count; j++) reflect(smallest.data.subarray(j * size, (j + 1) * size), v, i);
    reflectColumns(turned, v, i);
  }
  return rowsOf(turned, count, size);
}

/** v with I - v v^T turning entries i and on of row i into one; null where they are nothing. */
function reflector({ data, columns }: Matrix, i: number): Float64Array | null {
  const v = data.slice(i * columns, (i + 1) * columns).fill(0, 0, i);
  const norm = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  if (norm === 0) return null;
  v[i]! += v[i]! > 0 ? norm : -norm;
  const scale = Math.SQRT2 / Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  return v.map((x) => x * scale);
}

function reflect(row: Float64Array, v: Float64Array, from: number): void {
  let dot = 0;
  for (let j = from; j < v.length; j++) dot += v[j]! * row[j]!;
  for (let j = from; j < v.length; j++) row[j]! -= dot * v[j]!;
}

/** (I - v v^T) m */
function reflectColumns({ rows, columns, data }: Matrix, v: Float64Array, from: number): void {
  const sums = new Float64Array(columns);
  for (let i = from; i < rows; i++) {
    const x = v[i]!;
    for (let j = 0; j < columns; j++) sums[j]! += x * data[i * columns + j]!;
  }
  for (let i = from; i < rows; i++) {
    const x = v[i]!;
    for (let j = 0; j < columns; j++) data[i * columns + j]! -= x * sums[j]!;
  }
}
