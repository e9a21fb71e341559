import { decodeFloats, encodeFloats, type WritableFloat } from "../tensor/floatCodec";
import type { Bits } from "./view";

/** Integers of a matrix [rows, columns]: value = (code - zero) * scale of its row and group. */
export interface IntegerMatrix {
  rows: number;
  columns: number;
  bits: Bits;
  group: number;
  /** [rows, columns], from -2^(bits - 1) to 2^(bits - 1) - 1. */
  codes: Int8Array;
  /** [rows, columns / group], as they will be stored. */
  scales: Float32Array;
  /** [rows, columns / group], in the range of codes; null: symmetric, all 0. */
  zeros: Int8Array | null;
}

/** Widths that weights are rounded to: those that are stored as codes, and 6 bits of routers, which are not. */
export type RoundedBits = Bits | 6;

export interface IntegerGrid<B extends RoundedBits = Bits> {
  bits: B;
  /** Columns that share a scale; a divisor of the width. */
  group: number;
  /** What scales are stored in. They are rounded to it before any code is chosen. */
  scaleType: WritableFloat;
  /** Whether the range is that of the group's weights and 0, with a zero point; absent: symmetric. */
  asymmetric?: boolean;
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

/** Scales and zero points of a matrix's groups, [rows, columns / group] each. */
export interface GroupSteps {
  scales: Float32Array;
  zeros: Int8Array | null;
}

/**
 * Steps of integers over each group (compressed-tensors, `calculate_qparams`), scales rounded to their stored dtype. Symmetric:
 * max|w| / ((2^bits - 1) / 2), so that the range from -2^(bits - 1) to 2^(bits - 1) - 1 is used on both sides. Asymmetric:
 * (max - min) / (2^bits - 1) with 0 in the range, and the zero point -2^(bits - 1) - min / scale. Where scales are searched: the share
 * of that scale with which the group's weighted squared error is least, of equal ones the largest.
 */
export function integerSteps(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid<RoundedBits>,
): GroupSteps {
  const { bits, group, scaleType, asymmetric = false } = grid;
  const groups = (rows * columns) / group;
  const [scales, lows] = [new Float32Array(groups), new Float32Array(groups)];
  for (let g = 0; g < groups; g++) {
    let [low, high] = [0, 0];
    for (let i = g * group; i < (g + 1) * group; i++) {
      low = Math.min(low, weights[i]!);
      high = Math.max(high, weights[i]!);
    }
    const scale = asymmetric ? (high - low) / (2 ** bits - 1) : Math.max(high, -low) / ((2 ** bits - 1) / 2);
    scales[g] = scale > 0 ? scale : smallestScale[scaleType];
    lows[g] = low;
  }
  const stepsOf = (own: Float32Array): GroupSteps => {
    const stored = storedScales(own, scaleType);
    const zeros = asymmetric
      ? Int8Array.from(stored, (scale, g) => roundToGrid(-lows[g]!, scale, bits, -(2 ** (bits - 1))))
      : null;
    return { scales: stored, zeros };
  };
  const best = stepsOf(scales);
  if (grid.searched === undefined) return best;
  const errors = new Float64Array(groups).fill(Infinity);
  for (const share of searchedShares) {
    const tried = stepsOf(scales.map((scale) => scale * share));
    for (let g = 0; g < groups; g++) {
      const zero = tried.zeros?.[g] ?? 0;
      const error = groupError(weights, g, tried.scales[g]!, zero, { columns, bits, group }, grid.searched);
      if (error >= errors[g]!) continue;
      errors[g] = error;
      best.scales[g] = tried.scales[g]!;
      if (best.zeros !== null) best.zeros[g] = zero;
    }
  }
  return best;
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
  zero: number,
  { columns, bits, group }: { columns: number; bits: RoundedBits; group: number },
  counts: ArrayLike<number>,
): number {
  let sum = 0;
  for (let i = g * group; i < (g + 1) * group; i++) {
    const change = weights[i]! - (roundToGrid(weights[i]!, scale, bits, zero) - zero) * scale;
    sum += counts[i % columns]! * change * change;
  }
  return sum;
}

/** clamp(round(weight / scale + zero)), ties to even; in float32, as tools compute. */
export function roundToGrid(weight: number, scale: number, bits: RoundedBits, zero = 0): number {
  const most = 2 ** (bits - 1);
  return Math.min(most - 1, Math.max(-most, roundHalfToEven(Math.fround(Math.fround(weight / scale) + zero))));
}

/** Each weight to the nearest code of its group. */
export function roundToNearest(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid,
): IntegerMatrix {
  const { bits, group } = grid;
  const { scales, zeros } = integerSteps(weights, rows, columns, grid);
  const codes = new Int8Array(rows * columns);
  for (let i = 0; i < codes.length; i++) {
    const g = Math.floor(i / group);
    codes[i] = roundToGrid(weights[i]!, scales[g]!, bits, zeros?.[g] ?? 0);
  }
  return { rows, columns, bits, group, codes, scales, zeros };
}

/** The numbers that codes stand for, in float32 as every reader computes them. */
export function dequantised({
  codes,
  scales,
  zeros,
  group,
}: Omit<IntegerMatrix, "rows" | "columns" | "bits">): Float32Array {
  return Float32Array.from(codes, (code, i) => {
    const g = Math.floor(i / group);
    return (code - (zeros?.[g] ?? 0)) * scales[g]!;
  });
}

/** A matrix [rows, columns] with every weight at the nearest number of its group's grid. */
export function roundedValues(
  weights: ArrayLike<number>,
  rows: number,
  columns: number,
  grid: IntegerGrid<RoundedBits>,
): Float32Array {
  const { bits, group } = grid;
  const { scales, zeros } = integerSteps(weights, rows, columns, grid);
  return Float32Array.from(weights, (weight, i) => {
    const g = Math.floor(i / group);
    const zero = zeros?.[g] ?? 0;
    return (roundToGrid(weight, scales[g]!, bits, zero) - zero) * scales[g]!;
  });
}

function roundHalfToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
