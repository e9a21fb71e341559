import { throwIfCancelled } from "../../../protocol/errors";
import { cholesky, invertLower } from "./cholesky";
import { matrix, randomMatrix, rowsOf, trace, type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";
import { symmetricEigen, type Eigen } from "./symmetricEigen";

export interface LeadingEigenOptions {
  seed?: number;
  /**
   * residual: every wanted pair has ||a v - lambda v|| <= tolerance * lambda_1. energy: the sum of the wanted eigenvalues
   * has stopped growing by more than the tolerance: enough for a low-rank approximation, whose error depends on that sum
   * alone, and much earlier where the spectrum is flat.
   */
  stop?: "residual" | "energy";
  tolerance?: number;
  maxIterations?: number;
  signal?: AbortSignal | undefined;
}

/** Up to here all eigenpairs are computed in plain code. */
const directSize = 256;
/** Columns beyond the wanted ones, which make the last wanted ones converge. */
const oversampling = 16;
/** Degree of the Chebyshev filter: products a round. */
const filterDegree = 8;

/**
 * The `count` largest eigenpairs of a symmetric positive semi-definite matrix. Large ones by Chebyshev-filtered subspace
 * iteration from a random start (Zhou and Saad 2006; the filter is a polynomial that is small where unwanted eigenvalues
 * lie), with orthonormalisation by Gram matrix and Cholesky, so that all but a small dense problem is products on the
 * engine.
 */
export async function leadingEigen(
  products: MatrixProducts,
  a: Matrix,
  count: number,
  options: LeadingEigenOptions = {},
): Promise<Eigen> {
  const n = a.rows;
  const wanted = Math.min(count, n);
  const block = Math.min(n, wanted + oversampling);
  if (n <= directSize || block > 0.8 * n) return first(symmetricEigen(a), wanted);
  const { stop = "residual", maxIterations = 30, seed = 42 } = options;
  const tolerance = options.tolerance ?? (stop === "residual" ? 1e-6 : 1e-5);
  const total = Math.max(trace(a), Number.MIN_VALUE);
  let basis = await orthonormalRows(products, await products.multiply(randomMatrix(block, n, seed), a));
  let energy = 0;
  for (let iteration = 0; ; iteration++) {
    throwIfCancelled(options.signal);
    // Rayleigh-Ritz in the subspace: rows of `basis` become approximate eigenvectors.
    const applied = await products.multiply(basis, a);
    const small = symmetricEigen(await products.multiply(applied, basis, false, true));
    basis = await products.multiply(small.vectors, basis);
    const ritz = { values: small.values.map((value) => Math.max(0, value)), vectors: basis };
    const sum = ritz.values.subarray(0, wanted).reduce((s, value) => s + value, 0);
    const image = await products.multiply(small.vectors, applied);
    const converged =
      stop === "energy" ? sum - energy <= tolerance * total : residual(image, ritz, wanted) <= tolerance;
    if ((converged && iteration > 0) || iteration >= maxIterations) return first(ritz, wanted);
    energy = sum;
    basis = await orthonormalRows(products, await filtered(products, a, image, ritz));
  }
}

/** Chebyshev polynomial of the matrix that damps [0, smallest Ritz value], scaled to 1 at the largest (Zhou-Saad). */
async function filtered(
  products: MatrixProducts,
  a: Matrix,
  image: Matrix,
  { values, vectors }: Eigen,
): Promise<Matrix> {
  const top = values[0]!;
  const edge = values.at(-1)! / 2;
  if (!(edge > 1e-12 * top)) return image;
  let sigma = edge / (top - edge);
  const twice = 2 / sigma;
  let previous = vectors;
  let current = combine(image, vectors, sigma / edge, -sigma);
  for (let degree = 2; degree <= filterDegree; degree++) {
    const next = 1 / (twice - sigma);
    const applied = await products.multiply(current, a);
    const combined = combine(applied, current, (2 * next) / edge, -2 * next);
    previous = combine(combined, previous, 1, -sigma * next);
    [previous, current] = [current, previous];
    sigma = next;
  }
  return current;
}

function combine(a: Matrix, b: Matrix, x: number, y: number): Matrix {
  const data = new Float64Array(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = x * a.data[i]! + y * b.data[i]!;
  return { rows: a.rows, columns: a.columns, data };
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

/** Largest residual of the wanted pairs, as a share of the largest eigenvalue. */
function residual(image: Matrix, { values, vectors }: Eigen, wanted: number): number {
  const n = image.columns;
  let worst = 0;
  for (let i = 0; i < wanted; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += (image.data[i * n + j]! - values[i]! * vectors.data[i * n + j]!) ** 2;
    worst = Math.max(worst, sum);
  }
  return values[0]! > 0 ? Math.sqrt(worst) / values[0]! : 0;
}

function first({ values, vectors }: Eigen, count: number): Eigen {
  return { values: values.slice(0, count), vectors: rowsOf(vectors, 0, count) };
}
