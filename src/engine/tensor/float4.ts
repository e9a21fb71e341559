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
