import type { SparsityPattern } from "../../../protocol/plan";

/** Columns that a pattern looks at together, half of which become zero; 0: no pattern. */
export function runOf(pattern: SparsityPattern): number {
  return { unstructured: 0, "2:4": 4, "4:8": 8 }[pattern];
}

/**
 * How many of `size` weights become zero where a share `keep` stays: the whole part of size (1 - keep), as in Wanda's and
 * SparseGPT's code.
 */
export function leavingCount(size: number, keep: number): number {
  // 100 (1 - 0.9) is a little below 10.
  return Math.floor(size * (1 - keep) + 1e-9);
}

/** 1 for the `count` lowest scores; of equal ones the first leave. */
export function lowest(scores: Float64Array, count: number): Uint8Array {
  const leaves = new Uint8Array(scores.length);
  if (count <= 0) return leaves;
  if (count >= scores.length) return leaves.fill(1);
  const limit = scores.slice().sort()[count - 1]!;
  let left = count;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! < limit) {
      leaves[i] = 1;
      left--;
    }
  }
  for (let i = 0; i < scores.length && left > 0; i++) {
    if (scores[i] === limit) {
      leaves[i] = 1;
      left--;
    }
  }
  return leaves;
}

/** Marks the lower half of each run of `run` scores; of equal ones the last leave. */
export function lowestOfRuns(scores: Float64Array, run: number): Uint8Array {
  const leaves = new Uint8Array(scores.length);
  for (let from = 0; from < scores.length; from += run) {
    for (let left = run / 2; left > 0; left--) {
      let worst = -1;
      for (let i = from; i < from + run; i++) {
        if (leaves[i] === 0 && (worst < 0 || scores[i]! <= scores[worst]!)) worst = i;
      }
      leaves[worst] = 1;
    }
  }
  return leaves;
}

/** What of a matrix [rows, columns] becomes zero. */
export interface MaskRequest {
  columns: number;
  keep: number;
  pattern: SparsityPattern;
  /** Weights are compared within each output (row), or within the whole matrix; a pattern always looks at rows. */
  compare: "row" | "matrix";
  /** [columns]: multiplies the absolute values; null: 1. */
  norms: Float64Array | null;
}

/**
 * Score of w_ij: |w_ij| norm_j. The lowest become zero, in place; Wanda (arXiv 2306.11695) has as norm_j the L2 norm of input j
 * over the calibration tokens.
 */
export function maskByScore(weights: Float32Array, { columns, keep, pattern, compare, norms }: MaskRequest): void {
  const run = runOf(pattern);
  const width = run === 0 && compare === "matrix" ? weights.length : columns;
  const scores = new Float64Array(width);
  for (let from = 0; from < weights.length; from += width) {
    for (let i = 0; i < width; i++)
      scores[i] = Math.abs(weights[from + i]!) * (norms === null ? 1 : norms[i % columns]!);
    const leaves = run === 0 ? lowest(scores, leavingCount(width, keep)) : lowestOfRuns(scores, run);
    for (let i = 0; i < width; i++) if (leaves[i] === 1) weights[from + i] = 0;
  }
}
