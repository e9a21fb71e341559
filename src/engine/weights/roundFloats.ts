import { float4Values } from "../tensor/float4";
import { float8E4M3Values } from "../tensor/float8";
import { mxfp4Group } from "./float4";

/** The largest number of F8_E4M3. */
const largestFloat8 = 448;

export interface Float8Matrix {
  /** [rows, columns] */
  codes: Uint8Array;
  /** One for each block of rows and columns, row-major. */
  scales: Float32Array;
}

/**
 * F8_E4M3 codes with one scale max|w| / 448 for each block; nearest code, ties to even, largest number where beyond. A block of
 * zeros has the scale 1.
 *
 * @param store scales as they will be stored: codes are chosen for these
 */
export function roundToFloat8(
  weights: Float32Array,
  [rows, columns]: readonly [number, number],
  [blockRows, blockColumns]: readonly [number, number],
  store: (scales: Float32Array) => Float32Array = (scales) => scales,
): Float8Matrix {
  const width = Math.ceil(columns / blockColumns);
  const most = new Float32Array(Math.ceil(rows / blockRows) * width);
  const place = (i: number) =>
    Math.floor(Math.floor(i / columns) / blockRows) * width + Math.floor((i % columns) / blockColumns);
  for (let i = 0; i < weights.length; i++) {
    const block = place(i);
    most[block] = Math.max(most[block]!, Math.abs(weights[i]!));
  }
  const scales = store(most.map((value) => (value > 0 ? value / largestFloat8 : 1)));
  const codes = new Uint8Array(weights.length);
  for (let i = 0; i < weights.length; i++) codes[i] = nearestFloat8(weights[i]! / scales[place(i)]!);
  return { codes, scales };
}

/** The code of the nearest F8_E4M3 number; ties go to the even code, as hardware rounds. */
export function nearestFloat8(value: number): number {
  const magnitude = Math.abs(value);
  let [low, high] = [0, positiveFloat8.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (positiveFloat8[middle]! <= magnitude) low = middle;
    else high = middle - 1;
  }
  let code = low;
  if (low < positiveFloat8.length - 1) {
    const [below, above] = [magnitude - positiveFloat8[low]!, positiveFloat8[low + 1]! - magnitude];
    if (above < below || (above === below && low % 2 === 1)) code = low + 1;
  }
  return value < 0 ? code | 0x80 : code;
}

/** Codes 0 to 0x7e by rising value: code and place are the same. */
const positiveFloat8 = float8E4M3Values.slice(0, 0x7f);

export interface Float4Matrix {
  /** [rows, columns / 2], the low nibble first. */
  codes: Uint8Array;
  /** [rows, columns / 32] */
  exponents: Uint8Array;
}

/**
 * MXFP4 (OCP Microscaling Formats 1.0): a power of two for each 32 weights of a row, 2^(floor(log2 max) - 2), where the
 * maximum is first rounded as FP4 itself rounds: from 1.75 * 2^k on it counts as 2^(k + 1) (compressed-tensors). Nearest code,
 * ties to even, 6 where beyond.
 */
export function roundToMxfp4(weights: Float32Array): Float4Matrix {
  const exponents = new Uint8Array(weights.length / mxfp4Group);
  const codes = new Uint8Array(weights.length / 2);
  for (let g = 0; g < exponents.length; g++) {
    const from = g * mxfp4Group;
    let most = 0;
    for (let i = from; i < from + mxfp4Group; i++) most = Math.max(most, Math.abs(weights[i]!));
    const exponent = most === 0 ? -127 : exponentOf(most) - 2;
    exponents[g] = Math.min(254, Math.max(0, exponent + 127));
    const scale = 2 ** (exponents[g]! - 127);
    for (let i = from; i < from + mxfp4Group; i++) {
      codes[i >>> 1]! |= nearestFloat4(weights[i]! / scale) << (4 * (i & 1));
    }
  }
  return { codes, exponents };
}

/** floor(log2 value), one more from 1.75 times a power of two on. */
function exponentOf(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  // log2 rounds next to powers of two.
  const exact = 2 ** exponent > value ? exponent - 1 : 2 ** (exponent + 1) <= value ? exponent + 1 : exponent;
  return value >= 1.75 * 2 ** exact ? exact + 1 : exact;
}

/** The code of the nearest FP4 number; ties go to the even code. */
export function nearestFloat4(value: number): number {
  const magnitude = Math.abs(value);
  let code = 0;
  while (code < 7) {
    const middle = (float4Values[code]! + float4Values[code + 1]!) / 2;
    if (magnitude < middle || (magnitude === middle && code % 2 === 0)) break;
    code++;
  }
  return value < 0 ? code | 8 : code;
}
