/**
 * 8-bit floats of the OCP formats (https://arxiv.org/abs/2209.05433, OCP Microscaling Formats 1.0). A code is looked up
 * in a table of its 256 values.
 */

/** E4M3 ("fn"): bias 7, no infinity, NaN at 0x7f and 0xff, largest 448. */
export const float8E4M3Values: Float32Array = tableOf((code) => {
  const exponent = (code >>> 3) & 15;
  const fraction = code & 7;
  if (exponent === 15 && fraction === 7) return NaN;
  return signed(code, exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
});

/** E5M2: bias 15, infinities and NaN as in IEEE 754, largest 57344. */
export const float8E5M2Values: Float32Array = tableOf((code) => {
  const exponent = (code >>> 2) & 31;
  const fraction = code & 3;
  if (exponent === 31) return fraction === 0 ? signed(code, Infinity) : NaN;
  return signed(code, exponent === 0 ? fraction * 2 ** -16 : (4 + fraction) * 2 ** (exponent - 17));
});

/** E8M0: a power of two without sign, 2^(code - 127); 0xff is NaN. */
export const float8E8M0Values: Float32Array = tableOf((code) => (code === 255 ? NaN : 2 ** (code - 127)));

/** Looks up every code in one of the tables above. */
export function decodeFloat8(
  codes: Uint8Array,
  values: Float32Array,
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  for (let i = 0; i < codes.length; i++) out[i] = values[codes[i]!]!;
  return out;
}

function tableOf(value: (code: number) => number): Float32Array {
  return Float32Array.from({ length: 256 }, (_, code) => value(code));
}

function signed(code: number, magnitude: number): number {
  return code & 0x80 ? -magnitude : magnitude;
}
