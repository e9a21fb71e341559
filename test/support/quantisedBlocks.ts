/** Block-scaled formats decoded in plain loops, to hold graphs against. The engine decodes them inside graphs. */
import { float4Values } from "../../src/engine/tensor/float4";
import { float8E4M3Values } from "../../src/engine/tensor/float8";

/** Values that share one exponent, and the bytes they take. */
const mxBlockValues = 32;
const mxBlockBytes = mxBlockValues / 2;

/**
 * MXFP4: groups of 32 values, 16 bytes of `codes` each, times 2^(exponent - 127) with one byte of `exponents` a group;
 * an exponent of 255 means NaN. Returns the values in stored order.
 */
export function decodeMxfp4(
  codes: Uint8Array,
  exponents: Uint8Array,
  out: Float32Array = new Float32Array(codes.length * 2),
): Float32Array {
  for (let group = 0; group < exponents.length; group++) {
    const exponent = exponents[group]!;
    const scale = exponent === 255 ? NaN : 2 ** (exponent - 127);
    for (let i = group * mxBlockBytes; i < (group + 1) * mxBlockBytes; i++) {
      const code = codes[i]!;
      out[2 * i] = float4Values[code & 15]! * scale;
      out[2 * i + 1] = float4Values[code >>> 4]! * scale;
    }
  }
  return out;
}

/**
 * A matrix [rows, columns] of E4M3 codes with one scale per block (DeepSeek-V3's `weight_scale_inv`):
 * value = code * scale[floor(row / blockRows), floor(column / blockColumns)]. Blocks at the edges may be cut.
 *
 * `scales` is [ceil(rows / blockRows), ceil(columns / blockColumns)], row-major.
 */
export function decodeFloat8Blocks(
  codes: Uint8Array,
  matrix: { rows: number; columns: number },
  scales: Float32Array,
  block: { rows: number; columns: number },
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  const scaleColumns = Math.ceil(matrix.columns / block.columns);
  for (let row = 0; row < matrix.rows; row++) {
    const scaleRow = Math.floor(row / block.rows) * scaleColumns;
    for (let start = 0, b = 0; start < matrix.columns; start += block.columns, b++) {
      const scale = scales[scaleRow + b]!;
      const end = row * matrix.columns + Math.min(start + block.columns, matrix.columns);
      for (let i = row * matrix.columns + start; i < end; i++) out[i] = float8E4M3Values[codes[i]!]! * scale;
    }
  }
  return out;
}
