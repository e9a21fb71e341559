import { matrix, type Matrix } from "./matrix";

/** Eigenvalues, descending, and one eigenvector a row, orthonormal. */
export interface Eigen {
  values: Float64Array;
  /** [count, n] */
  vectors: Matrix;
}

/**
 * All eigenpairs of a symmetric matrix: Householder tridiagonalisation, then implicit QL (EISPACK tred2/tql2; Golub and
 * Van Loan, chapter 8). Vectors are kept as rows, so that every inner loop runs along memory. About 10 n^3 operations in
 * plain code: for sizes up to a few hundred.
 *
 * @throws Error where QL does not converge (NaN in the matrix)
 */
export function symmetricEigen(a: Matrix): Eigen {
  const n = a.rows;
  const { diagonal, offDiagonal, reflectors, scales } = tridiagonalise(a);
  const vectors = matrix(n, n);
  for (let i = 0; i < n; i++) vectors.data[i * n + i] = 1;
  implicitQl(diagonal, offDiagonal, vectors.data, n);
  for (let k = n - 3; k >= 0; k--) reflectRows(vectors.data, n, reflectors, k, scales[k]!);
  const order = Array.from(diagonal.keys()).sort((x, y) => diagonal[y]! - diagonal[x]! || x - y);
  const sorted = matrix(n, n);
  order.forEach((from, to) => sorted.data.set(vectors.data.subarray(from * n, (from + 1) * n), to * n));
  return { values: Float64Array.from(order, (i) => diagonal[i]!), vectors: sorted };
}

/** Row k of `reflectors` holds the Householder vector of step k from its entry k + 1 on; I - scale v v^T. */
function tridiagonalise(a: Matrix) {
  const n = a.rows;
  const work = Float64Array.from(a.data);
  const reflectors = new Float64Array(n * n);
  const scales = new Float64Array(n);
  const diagonal = new Float64Array(n);
  const offDiagonal = new Float64Array(n);
  const p = new Float64Array(n);
  for (let k = 0; k < n - 2; k++) {
    const v = reflectors.subarray(k * n, (k + 1) * n);
    let norm = 0;
    for (let i = k + 1; i < n; i++) {
      v[i] = work[k * n + i]!;
      norm += v[i]! * v[i]!;
    }
    norm = Math.sqrt(norm);
    if (norm === 0) continue;
    const alpha = v[k + 1]! > 0 ? -norm : norm;
    v[k + 1]! -= alpha;
    const scale = 1 / (norm * norm - alpha * work[k * n + k + 1]!);
    scales[k] = scale;
    offDiagonal[k + 1] = alpha;
    // p = scale A v, w = p - (scale p.v / 2) v, A -= v w^T + w v^T; only rows and columns after k.
    let dot = 0;
    for (let i = k + 1; i < n; i++) {
      let sum = 0;
      const row = i * n;
      for (let j = k + 1; j < n; j++) sum += work[row + j]! * v[j]!;
      p[i] = scale * sum;
      dot += p[i]! * v[i]!;
    }
    const half = (scale * dot) / 2;
    for (let i = k + 1; i < n; i++) p[i]! -= half * v[i]!;
    for (let i = k + 1; i < n; i++) {
      const [vi, wi] = [v[i]!, p[i]!];
      const row = i * n;
      for (let j = k + 1; j < n; j++) work[row + j]! -= vi * p[j]! + wi * v[j]!;
    }
  }
  for (let i = 0; i < n; i++) diagonal[i] = work[i * n + i]!;
  if (n > 1) offDiagonal[n - 1] = work[(n - 2) * n + n - 1]!;
  return { diagonal, offDiagonal, reflectors, scales };
}

function reflectRows(rows: Float64Array, n: number, reflectors: Float64Array, k: number, scale: number): void {
  if (scale === 0) return;
  const v = reflectors.subarray(k * n, (k + 1) * n);
  for (let i = 0; i < n; i++) {
    const row = i * n;
    let dot = 0;
    for (let j = k + 1; j < n; j++) dot += rows[row + j]! * v[j]!;
    const factor = scale * dot;
    for (let j = k + 1; j < n; j++) rows[row + j]! -= factor * v[j]!;
  }
}

/** QL with implicit shifts on a tridiagonal matrix; rotations are applied to the rows of z. e[i] couples i - 1 and i. */
function implicitQl(d: Float64Array, e: Float64Array, z: Float64Array, n: number): void {
  for (let i = 1; i < n; i++) e[i - 1] = e[i]!;
  if (n > 0) e[n - 1] = 0;
  // Rotations round to this share of the largest, so smaller couplings are nothing; waiting for less may not end.
  let largest = 0;
  for (let i = 0; i < n; i++) largest = Math.max(largest, Math.abs(d[i]!) + Math.abs(e[i]!));
  const nothing = Number.EPSILON * largest;
  for (let l = 0; l < n; l++) {
    for (let iteration = 0; ; iteration++) {
      let m = l;
      while (m < n - 1 && !(Math.abs(e[m]!) <= nothing)) m++;
      if (m === l) break;
      if (iteration === 60) throw new Error("eigenvalues did not converge; the matrix holds NaN or infinity");
      let g = (d[l + 1]! - d[l]!) / (2 * e[l]!);
      let r = Math.hypot(g, 1);
      g = d[m]! - d[l]! + e[l]! / (g + (g >= 0 ? r : -r));
      let s = 1;
      let c = 1;
      let p = 0;
      let i = m - 1;
      for (; i >= l; i--) {
        let f = s * e[i]!;
        const b = c * e[i]!;
        r = Math.sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r === 0) {
          d[i + 1]! -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1]! - p;
        r = (d[i]! - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        const lower = i * n;
        const upper = lower + n;
        for (let k = 0; k < n; k++) {
          f = z[upper + k]!;
          const other = z[lower + k]!;
          z[upper + k] = s * other + c * f;
          z[lower + k] = c * other - s * f;
        }
      }
      if (r === 0 && i >= l) continue;
      d[l]! -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
}
