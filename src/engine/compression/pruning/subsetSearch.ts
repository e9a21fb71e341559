/** A search for the experts to keep: start, how many stay, and where they may leave from. */
export interface SubsetRequest {
  numExperts: number;
  count: number;
  /** Consecutive equal groups that must each keep the same number; 1 without group limits. */
  routingGroups: number;
  /** Error of a kept set (1 for kept); lower is better. */
  error: (kept: Uint8Array) => number;
}

export interface SubsetResult {
  /** Ids that stay, ascending. */
  kept: number[];
  error: number;
  evaluations: number;
}

/** Every set of `count` experts, in lexicographic order; the first of the best is taken. */
export function exhaustiveSearch({ numExperts, count, error }: SubsetRequest): SubsetResult {
  const kept = Uint8Array.from({ length: numExperts }, (_, e) => (e < count ? 1 : 0));
  const ids = Array.from({ length: count }, (_, i) => i);
  let best: SubsetResult = { kept: [], error: Infinity, evaluations: 0 };
  for (let evaluations = 1; ; evaluations++) {
    const found = error(kept);
    if (found < best.error) best = { kept: [...ids], error: found, evaluations };
    let i = count - 1;
    while (i >= 0 && ids[i] === numExperts - count + i) i--;
    if (i < 0) return { ...best, evaluations };
    ids[i]!++;
    for (let j = i + 1; j < count; j++) ids[j] = ids[j - 1]! + 1;
    kept.fill(0);
    for (const id of ids) kept[id] = 1;
  }
}

/** Number of sets that an exhaustive search looks at; Infinity past 2^53. */
export function numberOfSets(numExperts: number, count: number): number {
  let sets = 1;
  for (let i = 1; i <= Math.min(count, numExperts - count); i++) sets = (sets * (numExperts - i + 1)) / i;
  return Number.isSafeInteger(Math.round(sets)) ? Math.round(sets) : Infinity;
}

/**
 * Removes experts one at a time, each time the one that costs least. Costs are kept by group of `groupSize` consecutive
 * experts: the group with the cheapest known removal is taken (coarse), its members are evaluated again (fine), and the
 * cheapest of them leaves. With one group this is plain backward elimination; with groups of sqrt(n) it needs about
 * n^1.5 evaluations.
 */
export function backwardSearch(request: SubsetRequest, groupSize: number): SubsetResult {
  const { numExperts, count, routingGroups, error } = request;
  const kept = new Uint8Array(numExperts).fill(1);
  const cost = new Float64Array(numExperts);
  const routingSize = numExperts / routingGroups;
  let evaluations = 0;
  const evaluate = (e: number) => {
    kept[e] = 0;
    cost[e] = error(kept);
    kept[e] = 1;
    evaluations++;
  };
  const mayLeave = (e: number) => {
    const from = Math.floor(e / routingSize) * routingSize;
    const left = kept.subarray(from, from + routingSize).reduce((sum, value) => sum + value, 0);
    return kept[e] === 1 && left > count / routingGroups;
  };
  const cheapest = (experts: readonly number[]) =>
    experts.reduce((best, e) => (best < 0 || cost[e]! < cost[best]! ? e : best), -1);
  const groups = Array.from({ length: Math.ceil(numExperts / groupSize) }, (_, g) =>
    Array.from({ length: Math.min(groupSize, numExperts - g * groupSize) }, (_, i) => g * groupSize + i),
  );
  let current = error(kept);
  for (let left = numExperts; left > count; left--) {
    if (left === numExperts) groups.flat().filter(mayLeave).forEach(evaluate);
    const coarse = cheapest(groups.flat().filter(mayLeave));
    const group = groups.find((members) => members.includes(coarse))!.filter(mayLeave);
    if (left < numExperts) group.forEach(evaluate);
    const leaving = cheapest(group);
    const before = current;
    current = cost[leaving]!;
    kept[leaving] = 0;
    // Costs of the other groups were seen before this removal; they rise by about what it cost.
    for (let e = 0; e < numExperts; e++) cost[e]! += current - before;
  }
  return { kept: Array.from(kept.keys()).filter((e) => kept[e] === 1), error: current, evaluations };
}
