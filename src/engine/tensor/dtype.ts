/**
 * dtypes of safetensors files, with their size in bits: `Dtype` of safetensors/src/tensor.rs. F4 packs two values in a
 * byte, F6 four in three; C64 is a complex number of two float32.
 */
export const dtypeBits = {
  C64: 64,
  F64: 64,
  F32: 32,
  F16: 16,
  BF16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
  I64: 64,
  I32: 32,
  I16: 16,
  I8: 8,
  U64: 64,
  U32: 32,
  U16: 16,
  U8: 8,
  BOOL: 8,
} as const;

export type DType = keyof typeof dtypeBits;

export function isDType(value: unknown): value is DType {
  return typeof value === "string" && Object.hasOwn(dtypeBits, value);
}

/** True for dtypes whose stored codes are numbers with a fraction (as opposed to integers and booleans). */
export function isFloat(dtype: DType): boolean {
  return dtype.startsWith("F") || dtype === "BF16";
}

/** Elements of a tensor; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  // A loop: it runs for each of 100,000 tensors, before anything is compiled.
  let product = 1;
  for (const size of shape) product *= size;
  return product;
}

/** Stored bytes of a tensor. A fraction means that the shape cannot be stored: an odd number of F4 values. */
export function byteLengthOf(dtype: DType, shape: readonly number[]): number {
  return (elementCount(shape) * dtypeBits[dtype]) / 8;
}
