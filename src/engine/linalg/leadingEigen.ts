import { throwIfCancelled } from "../../protocol/errors";
import { cholesky, invertLower, orthonormalRows } from "./cholesky";
import { randomMatrix, rowsOf, trace, transpose, type Matrix } from "./matrix";
import type { MatrixProducts } from "./products";
import { symmetricEigen, type Eigen } from "./symmetricEigen";
import { withoutSmallest } from "./withoutSmallest";

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
/** Largest degree of the Chebyshev filter: products a round. */
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
  const basis = await orthonormalRows(products, await products.multiply(randomMatrix(block, n, options.seed ?? 42), a));
  return first(await (options.stop === "energy" ? byEnergy : byResidual)(products, a, basis, wanted, options), wanted);
}

/**
 * Orthonormal rows that span the leading eigenvectors, near enough for a low-rank approximation (see stop: "energy"): no
 * eigenproblem at all, where leadingEigen has one at its end.
 */
export async function leadingSubspace(
  products: MatrixProducts,
  a: Matrix,
  count: number,
  options: Omit<LeadingEigenOptions, "stop"> = {},
): Promise<Matrix> {
  const n = a.rows;
  const wanted = Math.min(count, n);
  const block = Math.min(n, wanted + oversampling);
  if (n <= directSize || block > 0.8 * n) return first(symmetricEigen(a), wanted).vectors;
  const seed = options.seed ?? 42;
  const start = await orthonormalRows(products, await products.multiply(randomMatrix(block, n, seed), a));
  const { basis, projected } = await iterateByEnergy(products, a, start, options);
  return withoutSmallest(products, basis, projected, block - wanted);
}

/** Rayleigh-Ritz every round: rows of the basis become approximate eigenvectors, until their residuals are small. */
async function byResidual(
  products: MatrixProducts,
  a: Matrix,
  start: Matrix,
  wanted: number,
  { tolerance = 1e-6, maxIterations = 30, signal }: LeadingEigenOptions,
): Promise<Eigen> {
  let basis = start;
  for (let iteration = 0; ; iteration++) {
    throwIfCancelled(signal);
    const applied = await products.multiply(basis, a);
    const small = symmetricEigen(await products.multiply(applied, basis, false, true));
    basis = await products.multiply(small.vectors, basis);
    const ritz = { values: small.values.map((value) => Math.max(0, value)), vectors: basis };
    const image = await products.multiply(small.vectors, applied);
    const converged = residual(image, ritz, wanted) <= tolerance;
    if ((converged && iteration > 0) || iteration >= maxIterations) return ritz;
    const bounds = { top: ritz.values[0]!, edge: ritz.values.at(-1)! / 2 };
    const degree = safeDegree(bounds, mostGrowth.eigenvectors);
    basis = await orthonormalRows(products, await filtered(products, a, image, basis, bounds, degree));
  }
}

async function byEnergy(
  products: MatrixProducts,
  a: Matrix,
  start: Matrix,
  _wanted: number,
  options: LeadingEigenOptions,
): Promise<Eigen> {
  const { basis, projected } = await iterateByEnergy(products, a, start, options);
  const small = symmetricEigen(projected);
  const values = small.values.map((value) => Math.max(0, value));
  return { values, vectors: await products.multiply(small.vectors, basis) };
}

/**
 * Only the subspace counts, and its energy is a trace: no small eigenproblem in any round, so that rounds are bound by
 * products. Rows are not eigenvectors then, and a filter of high degree would turn all of them into the largest; the
 * degree is what orthonormalisation can still tell apart.
 * @returns the basis, and basis a basis^T
 */
async function iterateByEnergy(
  products: MatrixProducts,
  a: Matrix,
  start: Matrix,
  { tolerance = 1e-5, maxIterations = 60, signal }: LeadingEigenOptions,
): Promise<{ basis: Matrix; projected: Matrix }> {
  const total = Math.max(trace(a), Number.MIN_VALUE);
  let basis = start;
  let [energy, degree] = [0, filterDegree];
  for (let iteration = 0; ; iteration++) {
    throwIfCancelled(signal);
    const applied = await products.multiply(basis, a);
    const projected = await products.multiply(applied, basis, false, true);
    const sum = trace(projected);
    // A filter of lower degree gains less a round.
    const converged = iteration > 0 && sum - energy <= (tolerance * total * degree) / filterDegree;
    if (converged || iteration >= maxIterations) return { basis, projected };
    energy = sum;
    const bounds = await spectrumBounds(products, projected);
    degree = safeDegree(bounds, mostGrowth.anyRows);
    basis = await orthonormalRows(products, await filtered(products, a, applied, basis, bounds, degree));
  }
}

/** Largest and half the smallest eigenvalue of a small matrix, by powers of it and of its inverse. */
async function spectrumBounds(products: MatrixProducts, small: Matrix): Promise<Bounds> {
  const n = small.rows;
  const top = powerIteration(n, (v) => timesVector(small.data, n, v));
  const { lower, shift } = await cholesky(products, small);
  if (shift > 0) return { top, edge: 0 };
  const inverse = await invertLower(products, lower);
  const transposedInverse = transpose(inverse);
  const largestInverse = powerIteration(n, (v) =>
    timesVector(transposedInverse.data, n, timesVector(inverse.data, n, v)),
  );
  return { top, edge: 1 / largestInverse / 2 };
}

function powerIteration(n: number, apply: (v: Float64Array) => Float64Array): number {
  let v: Float64Array = Float64Array.from({ length: n }, (_, i) => 1 + Math.sin(i));
  let value = 0;
  for (let round = 0; round < 12; round++) {
    const norm = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
    if (norm === 0) return 0;
    const next = apply(v.map((x) => x / norm));
    value = Math.sqrt(next.reduce((sum, x) => sum + x * x, 0));
    v = next;
  }
  return value;
}

function timesVector(data: Float64Array, n: number, v: Float64Array): Float64Array {
  const result = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += data[i * n + j]! * v[j]!;
    result[i] = sum;
  }
  return result;
}

/**
 * How much more a filter may grow the largest direction than the last. Rows of any direction turn towards the largest, and
 * a Gram matrix in float64 cannot tell them apart beyond this; eigenvectors only become shorter, until they underflow.
 */
const mostGrowth = { anyRows: 1e6, eigenvectors: 1e60 };

/** The largest degree up to the filter's whose polynomial grows by no more than that from the edge to the top. */
function safeDegree({ top, edge }: Bounds, most: number): number {
  if (edge <= 0) return 1;
  const growth = Math.acosh(Math.max(1, (2 * top) / edge - 1));
  return Math.max(1, Math.min(filterDegree, Math.floor(Math.acosh(most) / Math.max(growth, 1e-9))));
}

interface Bounds {
  top: number;
  /** Eigenvalues below are damped. */
  edge: number;
}

/**
 * Chebyshev polynomial of the matrix that damps [0, edge], scaled to 1 at the top (Zhou-Saad).
 * @param image vectors times a
 */
async function filtered(
  products: MatrixProducts,
  a: Matrix,
  image: Matrix,
  vectors: Matrix,
  { top, edge }: Bounds,
  most: number,
): Promise<Matrix> {
  if (most === 1 || !(edge > 1e-12 * top)) return image;
  let sigma = edge / (top - edge);
  const twice = 2 / sigma;
  let previous = vectors;
  let current = combine(image, vectors, sigma / edge, -sigma);
  for (let degree = 2; degree <= most; degree++) {
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
