/**
 * Ranks from the share of parameters to keep, by the methods' printed formulas. m rows, n columns, K experts. Every
 * result is at least 1 and never above what the matrix has; `keep` of 1 keeps the matrix as it is (rank 0).
 */

/** Truncated SVD: r = floor(keep m n / (m + n)), stored as [m, r] and [r, n]. */
export function svdRank(keep: number, m: number, n: number): number {
  if (keep >= 1) return 0;
  return clamp(Math.floor((keep * m * n) / (m + n)), Math.min(m, n));
}

/**
 * MoBE: K m r + b r n = share K m n with `bases` b; the down projection stays, so gate and up keep (3 keep - 1) / 2.
 * @returns null where nothing is left for gate and up
 */
export function mobeRank(keep: number, numExperts: number, m: number, n: number, bases: number): number | null {
  if (keep >= 1) return 0;
  const share = (3 * keep - 1) / 2;
  const rank = Math.floor((share * numExperts * m * n) / (numExperts * m + bases * n));
  return rank < 1 ? null : Math.min(rank, n);
}

/** Parameters of a Tucker form: core, and a factor for experts, outputs and inputs. */
export function tuckerParameters(K: number, m: number, n: number, r1: number, r2: number, r3: number): number {
  return r1 * r2 * r3 + K * r1 + m * r2 + n * r3;
}

/** TD-MoE: r3 = floor((keep K m n - K r1 - m r2) / (r1 r2 + n)); null where it is below 1. */
export function tuckerInputRank(keep: number, K: number, m: number, n: number, r1: number, r2: number): number | null {
  const rank = Math.floor((keep * K * m * n - K * r1 - m * r2) / (r1 * r2 + n));
  return rank < 1 ? null : Math.min(rank, n);
}

/** Ranks of a Tucker form. */
export interface TuckerRanks {
  experts: number;
  outputs: number;
  inputs: number;
}

/** Every combination that TD-MoE looks at: expert and output ranks all, 3/4 or 1/2, the input rank from the budget. */
export function tuckerRankChoices(keep: number, K: number, m: number, n: number): TuckerRanks[] {
  return [K, Math.ceil(K * 0.75), Math.ceil(K / 2)].flatMap((experts) =>
    [m, Math.ceil(m * 0.75), Math.ceil(m / 2)].flatMap((outputs): TuckerRanks[] => {
      const inputs = tuckerInputRank(keep, K, m, n, experts, outputs);
      return inputs === null ? [] : [{ experts, outputs, inputs }];
    }),
  );
}

/**
 * D2-MoE: m n for the base and r (m + n) for each expert's difference: r = floor((keep K m n - m n) / (K (m + n))).
 * @returns null where the base alone is too large
 */
export function deltaRank(keep: number, K: number, m: number, n: number): number | null {
  if (keep >= 1) return 0;
  const rank = Math.floor((keep * K * m * n - m * n) / (K * (m + n)));
  return rank < 1 ? null : Math.min(rank, Math.min(m, n));
}

/** Bases of MoBE where none are given: one for about 16 experts, at least two (8 for Qwen3's 128, 2 for Mixtral's 8). */
export function defaultBases(numExperts: number): number {
  return Math.min(numExperts, Math.max(2, Math.round(numExperts / 16)));
}

function clamp(rank: number, most: number): number {
  return Math.max(1, Math.min(rank, most));
}
