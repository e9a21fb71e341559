import { RerouteError } from "../../protocol/errors";
import { decodeFloat4 } from "./float4";
import { decodeFloat8, float8E4M3Values, float8E5M2Values, float8E8M0Values } from "./float8";
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from "./halfPrecision";
import type { DType } from "./dtype";

/** dtypes that weights can be written in. */
export type WritableFloat = "F32" | "F16" | "BF16" | "F64";

/** Like decodeFloats, into numbers that are there; without a copy for the dtype that weights mostly have. */
export function decodeFloatsInto(bytes: Uint8Array, dtype: DType, out: Float32Array): void {
  if (dtype === "BF16" && bytes.byteOffset % 2 === 0) {
    bfloat16ToFloat32(new Uint16Array(bytes.buffer, bytes.byteOffset, out.length), out);
  } else out.set(decodeFloats(bytes, dtype));
}

/**
 * Stored bytes as float32. Quantised codes are the numbers they stand for without any scale; 64-bit floats and integers
 * are rounded to float32. Bytes are little-endian, as safetensors stores them and as every machine that runs Node does.
 */
export function decodeFloats(bytes: Uint8Array, dtype: DType): Float32Array {
  switch (dtype) {
    case "F32":
      return new Float32Array(aligned(bytes, 4));
    case "BF16":
      return bfloat16ToFloat32(new Uint16Array(aligned(bytes, 2)));
    case "F16":
      return float16ToFloat32(new Uint16Array(aligned(bytes, 2)));
    case "F64":
      return Float32Array.from(new Float64Array(aligned(bytes, 8)));
    case "F8_E4M3":
      return decodeFloat8(bytes, float8E4M3Values);
    case "F8_E5M2":
      return decodeFloat8(bytes, float8E5M2Values);
    case "F8_E8M0":
      return decodeFloat8(bytes, float8E8M0Values);
    case "F4":
      return decodeFloat4(bytes);
    case "I64":
      return Float32Array.from(new BigInt64Array(aligned(bytes, 8)), Number);
    case "U64":
      return Float32Array.from(new BigUint64Array(aligned(bytes, 8)), Number);
    case "I32":
      return Float32Array.from(new Int32Array(aligned(bytes, 4)));
    case "U32":
      return Float32Array.from(new Uint32Array(aligned(bytes, 4)));
    case "I16":
      return Float32Array.from(new Int16Array(aligned(bytes, 2)));
    case "U16":
      return Float32Array.from(new Uint16Array(aligned(bytes, 2)));
    case "I8":
      return Float32Array.from(new Int8Array(aligned(bytes, 1)));
    case "U8":
    case "BOOL":
      return Float32Array.from(bytes);
    case "C64":
    case "F8_E4M3FNUZ":
    case "F8_E5M2FNUZ":
    case "F6_E2M3":
    case "F6_E3M2":
      throw new RerouteError("checkpoint/unsupported-dtype", `values stored as ${dtype} cannot be read, only copied`);
  }
}

/** float32 values as stored bytes; narrower dtypes round to nearest, ties to even. */
export function encodeFloats(values: Float32Array, dtype: WritableFloat): Uint8Array {
  switch (dtype) {
    case "F32":
      return bytesOf(values);
    case "BF16":
      return bytesOf(float32ToBfloat16(values));
    case "F16":
      return bytesOf(float32ToFloat16(values));
    case "F64":
      return bytesOf(Float64Array.from(values));
  }
}

/** The same memory as bytes. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * A typed array must start at a multiple of its element size: bytes at another offset are copied. Not by `slice`, which
 * copies nothing where the bytes are a Buffer.
 */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = bytes;
  return byteOffset === 0 && byteLength === buffer.byteLength && byteLength % size === 0
    ? (buffer as ArrayBuffer)
    : new Uint8Array(bytes).buffer;
}
