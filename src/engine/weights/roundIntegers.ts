import { decodeFloats, encodeFloats, type WritableFloat } from "../tensor/floatCodec";
import type { Bits } from "./view";

/** Symmetric integers of a matrix [rows, columns]: value = code * scale of its row and group. */
export interface IntegerMatrix {
  rows: number;
  columns: number;
  bits: Bits;
  group: number;
  /** [rows, columns], from -2^(bits - 1) to 2^(bits - 1) - 1. */
  codes: Int8Array;
  /** [rows, columns / group], as they will be stored. */
  scales: Float32Array;
}

/** Widths that weights are rounded to: those that are stored as codes, and 6 bits of routers, which are not. */
export type RoundedBits = Bits | 6;

export interface IntegerGrid<B extends RoundedBits = Bits> {
  bits: B;
  /** Columns that share a scale; a divisor of the width. */
  group: number;
  /** What scales are stored in. They are rounded to it before any code is chosen. */
  scaleType: WritableFloat;
  /** [columns] how much a column's error counts where scales are searched; absent: scales are those of the largest weight. */
  searched?: ArrayLike<number>;
}

/** Shares of the largest weight's scale that a search tries: 1, 0.99, ..., 0.81. */
const searchedShares = Array.from({ length: 20 }, (_, i) => 1 - i / 100);

/** Scales are never zero: a group of zeros gets the smallest step of its dtype (compressed-tensors). */
const smallestScale: Record<WritableFloat, number> = {
  BF16: 2 ** -7,
  F16: 2 ** -10,
  F32: 2 ** -23,
  F64: 2 ** -52,
};

/**
 * Scales of symmetric integers: max|w| / ((2^bits - 1) / 2) over each group, so that the range from -2^(bits - 1) to
 * 2^(bits - 1) - 1 is used on both sides (compressed-tensors, `calculate_qparams`), rounded to their stored dtype. Where they are
 * searched: the share of that scale with which the group's weighted squared error is least, of equal ones the largest.
 */
export function integerScales(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid<RoundedBits>,
): Float32Array {
  const { bits, group, scaleType } = grid;
  const scales = new Float32Array((rows * columns) / group);
  for (let g = 0; g < scales.length; g++) {
    let most = 0;
    for (let i = g * group; i < (g + 1) * group; i++) most = Math.max(most, Math.abs(weights[i]!));
    const scale = most / ((2 ** bits - 1) / 2);
    scales[g] = scale > 0 ? scale : smallestScale[scaleType];
  }
  if (grid.searched === undefined) return storedScales(scales, scaleType);
  const best = { scales: storedScales(scales, scaleType), errors: new Float64Array(scales.length).fill(Infinity) };
  for (const share of searchedShares) {
    const tried = storedScales(
      scales.map((scale) => scale * share),
      scaleType,
    );
    for (let g = 0; g < tried.length; g++) {
      const error = groupError(weights, g, tried[g]!, { columns, bits, group }, grid.searched);
      if (error >= best.errors[g]!) continue;
      best.errors[g] = error;
      best.scales[g] = tried[g]!;
    }
  }
  return best.scales;
}

/** A scale below what the dtype holds would divide by zero. */
function storedScales(scales: Float32Array, scaleType: WritableFloat): Float32Array {
  const stored = decodeFloats(encodeFloats(scales, scaleType), scaleType);
  return stored.map((scale) => (scale > 0 ? scale : smallestScale[scaleType]));
}

/** sum c (w - w')^2 over a group, c how much its column counts. */
function groupError(
  weights: ArrayLike<number>,
  g: number,
  scale: number,
  { columns, bits, group }: { columns: number; bits: RoundedBits; group: number },
  counts: ArrayLike<number>,
): number {
  let sum = 0;
  for (let i = g * group; i < (g + 1) * group; i++) {
    const change = weights[i]! - roundToGrid(weights[i]!, scale, bits) * scale;
    sum += counts[i % columns]! * change * change;
  }
  return sum;
}

/** clamp(round(weight / scale)), ties to even; divided in float32, as tools divide. */
export function roundToGrid(weight: number, scale: number, bits: RoundedBits): number {
  const most = 2 ** (bits - 1);
  return Math.min(most - 1, Math.max(-most, roundHalfToEven(Math.fround(weight / scale))));
}

/** Each weight to the nearest code of its group. */
export function roundToNearest(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid,
): IntegerMatrix {
  const { bits, group } = grid;
  const scales = integerScales(weights, rows, columns, grid);
  const codes = new Int8Array(rows * columns);
  for (let i = 0; i < codes.length; i++) codes[i] = roundToGrid(weights[i]!, scales[Math.floor(i / group)]!, bits);
  return { rows, columns, bits, group, codes, scales };
}

/** The numbers that codes stand for, in float32 as every reader computes them. */
export function dequantised({ codes, scales, group }: IntegerMatrix): Float32Array {
  return Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / group)]!);
}

/** A matrix [rows, columns] with every weight at the nearest multiple of its group's scale. */
export function roundedValues(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid<RoundedBits>,
): Float32Array {
  const { bits, group } = grid;
  const scales = integerScales(weights, rows, columns, grid);
  return Float32Array.from(weights, (weight, i) => {
    const scale = scales[Math.floor(i / group)]!;
    return roundToGrid(weight, scale, bits) * scale;
  });
}

function roundHalfToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
