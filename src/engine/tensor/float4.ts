/** FP4 E2M1 and MXFP4, the format of gpt-oss experts (OCP Microscaling Formats 1.0). */

/** All 16 codes: sign, two exponent bits with bias 1, one fraction bit. */
export const float4Values: Float32Array = Float32Array.of(
  0,
  0.5,
  1,
  1.5,
  2,
  3,
  4,
  6,
  -0,
  -0.5,
  -1,
  -1.5,
  -2,
  -3,
  -4,
  -6,
);

/** Two values a byte, the low nibble first. */
export function decodeFloat4(codes: Uint8Array, out: Float32Array = new Float32Array(codes.length * 2)): Float32Array {
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]!;
    out[2 * i] = float4Values[code & 15]!;
    out[2 * i + 1] = float4Values[code >>> 4]!;
  }
  return out;
}

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
