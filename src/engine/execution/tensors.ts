import type { Tensor } from "../runtime/session";

/** A float32 tensor over existing data. */
export function float32(data: Float32Array, shape: readonly number[]): Tensor {
  return { type: "float32", shape, data };
}

/** The data of a float32 result. */
export function floats(tensor: Tensor): Float32Array {
  if (!(tensor.data instanceof Float32Array)) throw new Error(`expected float32, got ${tensor.type}`);
  return tensor.data;
}

/** Rows [from, to) of a matrix with `rows` rows, as a view. */
export function rowsTensor(all: Float32Array, rows: number, from: number, to: number): Tensor {
  const width = all.length / rows;
  return float32(all.subarray(from * width, to * width), [to - from, width]);
}
