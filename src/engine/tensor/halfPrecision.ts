/**
 * bfloat16 and IEEE binary16 to and from float32. Narrowing rounds to nearest, ties to even, as PyTorch and the
 * hardware do; NaN becomes the quiet NaN of its sign; too large becomes infinity.
 */

/** Widens bfloat16 codes: the upper half of the float32 bits, so it is exact. */
export function bfloat16ToFloat32(
  codes: Uint16Array,
  out: Float32Array = new Float32Array(codes.length),
): Float32Array {
  const bits = new Uint32Array(out.buffer, out.byteOffset, codes.length);
  for (let i = 0; i < codes.length; i++) bits[i] = codes[i]! << 16;
  return out;
}

export function float32ToBfloat16(
  values: Float32Array,
  out: Uint16Array = new Uint16Array(values.length),
): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) {
    const b = bits[i]!;
    // Adding 0x7fff, plus one when the kept part is odd, carries into it exactly when rounding up is due.
    if ((b & 0x7fffffff) > 0x7f800000) out[i] = (b >>> 16) & 0x8000 ? 0xffc0 : 0x7fc0;
    else out[i] = (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** Widens binary16 codes, exactly. */
export function float16ToFloat32(codes: Uint16Array, out: Float32Array = new Float32Array(codes.length)): Float32Array {
  const table = float16Table();
  for (let i = 0; i < codes.length; i++) out[i] = table[codes[i]!]!;
  return out;
}

export function float32ToFloat16(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < values.length; i++) out[i] = float16Code(bits[i]!);
  return out;
}

let table: Float32Array | undefined;

/** All 65536 values, 256 KiB: a lookup is several times faster than taking the code apart each time. */
function float16Table(): Float32Array {
  if (table) return table;
  table = new Float32Array(65536);
  for (let code = 0; code < 65536; code++) {
    const exponent = (code >>> 10) & 31;
    const fraction = code & 1023;
    const magnitude =
      exponent === 31
        ? fraction === 0
          ? Infinity
          : NaN
        : exponent === 0
          ? fraction * 2 ** -24
          : (1024 + fraction) * 2 ** (exponent - 25);
    table[code] = code & 0x8000 ? -magnitude : magnitude;
  }
  return table;
}

function float16Code(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // From half way between the largest finite value (65504) and the next step, ties to even give infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal: rebias the exponent from 127 to 15 and round away 13 bits of fraction; a carry raises the exponent.
    const rebiased = magnitude - (112 << 23);
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // Below half of the smallest subnormal, 2^-25, everything is zero; the tie itself goes to even, also zero.
  if (magnitude <= 0x33000000) return sign;
  // Subnormal: shift the fraction with its hidden bit so that one unit is 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return sign | (kept + (rest > half || (rest === half && (kept & 1) === 1) ? 1 : 0));
}
