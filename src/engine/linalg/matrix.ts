import { createRandom } from "../tensor/random";

/** A dense row-major matrix in float64: what decompositions work on. Weights stay float32 outside. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

export function matrix(rows: number, columns: number, data?: ArrayLike<number>): Matrix {
  if (data !== undefined && data.length !== rows * columns) {
    throw new Error(`a matrix [${rows}, ${columns}] needs ${rows * columns} numbers, got ${data.length}`);
  }
  return { rows, columns, data: data === undefined ? new Float64Array(rows * columns) : Float64Array.from(data) };
}

export function identity(n: number): Matrix {
  const result = matrix(n, n);
  for (let i = 0; i < n; i++) result.data[i * n + i] = 1;
  return result;
}

export function transpose({ rows, columns, data }: Matrix): Matrix {
  const result = matrix(columns, rows);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[i * columns + j]!;
  return result;
}

/** Standard normal entries. */
export function randomMatrix(rows: number, columns: number, seed: number): Matrix {
  const random = createRandom(seed, rows * 65_537 + columns);
  const result = matrix(rows, columns);
  for (let i = 0; i < result.data.length; i++) result.data[i] = random.normal();
  return result;
}

/** a - b */
export function subtract(a: Matrix, b: Matrix): Matrix {
  return { ...a, data: a.data.map((value, i) => value - b.data[i]!) };
}

/** Square of the Frobenius norm. */
export function squaredNorm({ data }: { data: Float64Array | Float32Array }): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! * data[i]!;
  return sum;
}

export function trace({ rows, columns, data }: Matrix): number {
  let sum = 0;
  for (let i = 0; i < Math.min(rows, columns); i++) sum += data[i * columns + i]!;
  return sum;
}

/** Rows [from, to). */
export function rowsOf({ columns, data }: Matrix, from: number, to: number): Matrix {
  return { rows: to - from, columns, data: data.slice(from * columns, to * columns) };
}

export function toFloat32({ data }: Matrix): Float32Array {
  return Float32Array.from(data);
}
