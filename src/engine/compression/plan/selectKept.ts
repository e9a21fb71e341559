export interface SelectionRequest {
  /** [E] score of each expert; null: no calibration token reached it, so it goes first. */
  scores: readonly (number | null)[];
  /** Which end of the scores stays. */
  keepEnd: "highest" | "lowest";
  count: number;
  /** Equal consecutive groups that must each keep the same number; 1 without group limits. */
  groups: number;
  /** Experts that stay whatever their score. */
  protectedExperts: ReadonlySet<number>;
}

/**
 * Ids of the experts that stay, ascending. Order of preference: protected, then by score, then never routed; ties go to
 * the lower id. Where more are protected than may stay, the better-scored ones do.
 */
export function selectKept({ scores, keepEnd, count, groups, protectedExperts }: SelectionRequest): number[] {
  const sign = keepEnd === "highest" ? -1 : 1;
  const rank = (expert: number): number => (protectedExperts.has(expert) ? 0 : scores[expert] === null ? 2 : 1);
  const better = (a: number, b: number): number =>
    rank(a) - rank(b) || sign * ((scores[a] ?? 0) - (scores[b] ?? 0)) || a - b;
  const perGroup = scores.length / groups;
  return Array.from({ length: groups }, (_, g) => Array.from({ length: perGroup }, (_, i) => g * perGroup + i))
    .flatMap((members) => members.sort(better).slice(0, count / groups))
    .sort((a, b) => a - b);
}
