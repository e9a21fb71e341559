import { averageLinkage, cutToClusters } from "../../routing/averageLinkage";
import { nearestMultiple } from "../plan/keptCount";
import type { MergeGroup } from "./mergeGroup";

/** Members with their averaging weights; ids ascending. */
export function weightedGroup(members: readonly number[], use: ArrayLike<number>, dominant: number): MergeGroup {
  const sorted = [...members].sort((a, b) => a - b);
  const total = sorted.reduce((sum, e) => sum + use[e]!, 0);
  // A group that no token reached is averaged evenly.
  return { members: sorted, weights: sorted.map((e) => (total > 0 ? use[e]! / total : 1 / sorted.length)), dominant };
}

/** Groups in the order of their dominants: the order of the router rows that stay. */
export function inDominantOrder(groups: MergeGroup[]): MergeGroup[] {
  return groups.sort((a, b) => a.dominant - b.dominant);
}

/** The member with the largest value; ties to the lower id. */
export function largest(members: readonly number[], values: ArrayLike<number>): number {
  return members.reduce((best, e) => (values[e]! > values[best]! ? e : best));
}

/**
 * Splits experts 0..E-1 into `routingGroups` consecutive ranges and groups each on its own, so that a router with group
 * limits keeps the same number of rows in every range.
 */
export function withinRoutingGroups(
  numExperts: number,
  count: number,
  routingGroups: number,
  groupRange: (experts: number[], count: number) => MergeGroup[],
): MergeGroup[] {
  const size = numExperts / routingGroups;
  return inDominantOrder(
    Array.from({ length: routingGroups }, (_, g) =>
      groupRange(
        Array.from({ length: size }, (_, i) => g * size + i),
        count / routingGroups,
      ),
    ).flat(),
  );
}

/**
 * HC-SMoE (ICML 2025): average-linkage clusters of the experts' representatives (Euclidean distance).
 *
 * @param representatives [E, H], the mean of f_e(x) over all tokens
 * The dominant, whose router row a folded router keeps, is the most used member: the most central one is often an expert
 * that nothing is routed to. The centre, to whose units fix-dominant joins the others', is the member nearest to the mean.
 */
export function hierarchicalGroups(
  experts: readonly number[],
  count: number,
  representatives: Float64Array,
  hiddenSize: number,
  frequency: ArrayLike<number>,
): MergeGroup[] {
  const n = experts.length;
  const row = (e: number) => representatives.subarray(e * hiddenSize, (e + 1) * hiddenSize);
  const distances = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      const d = euclidean(row(experts[i]!), row(experts[j]!));
      distances[i * n + j] = d;
      distances[j * n + i] = d;
    }
  }
  return cutToClusters(averageLinkage(distances, n), n, count).map((cluster) => {
    const members = cluster.map((i) => experts[i]!);
    const mean = new Float64Array(hiddenSize);
    for (const e of members) row(e).forEach((value, h) => (mean[h]! += value / members.length));
    const nearness = new Map(members.map((e) => [e, -euclidean(row(e), mean)]));
    const centre = members.reduce((best, e) => (nearness.get(e)! > nearness.get(best)! ? e : best));
    return { ...weightedGroup(members, frequency, largest(members, frequency)), centre };
  });
}

/**
 * M-SMoE (ICLR 2024): the `count` most used experts are dominant; every other joins the dominant whose router logits are
 * most similar to its own. Ties go to the lower id; an expert without similarity (logits always 0) joins the first.
 *
 * @param similarity [E, E] cosine of router-logit columns
 */
export function dominantGroups(
  experts: readonly number[],
  count: number,
  similarity: Float64Array,
  numExperts: number,
  frequency: ArrayLike<number>,
): MergeGroup[] {
  const dominants = [...experts].sort((a, b) => frequency[b]! - frequency[a]! || a - b).slice(0, count);
  const members = new Map(dominants.sort((a, b) => a - b).map((e) => [e, [e]]));
  for (const expert of experts) {
    if (members.has(expert)) continue;
    const nearest = dominants.reduce((best, d) =>
      nearness(similarity[expert * numExperts + d]!) > nearness(similarity[expert * numExperts + best]!) ? d : best,
    );
    members.get(nearest)!.push(expert);
  }
  return [...members].map(([dominant, group]) => weightedGroup(group, frequency, dominant));
}

/**
 * M-SMoE's global budget, as its authors' code has it (UNITES-Lab/MC-SMoE, `_assign_num_groups_per_layer`): frequencies are
 * shares of their layer's total, the most used expert of a layer counts as 1, and the groups of a layer are the shares
 * strictly above the (`total` + 1)-th largest of the model. At least one a layer; ties at the threshold give fewer than
 * `total`.
 *
 * @param frequencies [E] of each layer
 * @param total groups over all layers, at least one a layer
 * @param multipleOf each layer's count is rounded to the nearest multiple, so that all together may differ from `total`; at
 * most the number of experts
 * @returns number of groups of each layer
 */
export function globalGroupCounts(frequencies: readonly ArrayLike<number>[], total: number, multipleOf = 1): number[] {
  const shares = frequencies.map((frequency) => {
    const values = Array.from(frequency);
    const sum = values.reduce((all, value) => all + value, 0);
    const top = largest([...values.keys()], values);
    return values.map((value, expert) => (expert === top ? 1 : sum > 0 ? value / sum : 0));
  });
  const threshold = shares.flat().sort((a, b) => b - a)[total] ?? -1;
  return shares.map((layer) => {
    const count = layer.filter((share) => share > threshold).length;
    const most = Math.floor(layer.length / multipleOf) * multipleOf;
    return Math.min(most, Math.max(multipleOf, nearestMultiple(count, multipleOf)));
  });
}

/**
 * REAM's grouping (arXiv 2604.04356): the `count` most salient experts are centroids; in falling saliency each absorbs
 * its nearest experts that are still free until its group has `groupSize` members, so most groups stay singletons.
 * Weights are the saliency. Experts left over when all groups are full join the nearest centroid.
 *
 * @param distance [E, E]
 */
export function pseudoPruningGroups(
  experts: readonly number[],
  count: number,
  saliency: ArrayLike<number>,
  distance: Float64Array,
  numExperts: number,
  groupSize: number,
): MergeGroup[] {
  const order = [...experts].sort((a, b) => saliency[b]! - saliency[a]! || a - b);
  const centroids = order.slice(0, count);
  const free = new Set(order.slice(count));
  const groups = centroids.map((centroid) => {
    const nearest = [...free].sort(
      (a, b) => distance[centroid * numExperts + a]! - distance[centroid * numExperts + b]! || a - b,
    );
    const taken = nearest.slice(0, groupSize - 1);
    taken.forEach((e) => free.delete(e));
    return [centroid, ...taken];
  });
  for (const expert of free) {
    const at = centroids.reduce(
      (best, centroid, i) =>
        distance[expert * numExperts + centroid]! < distance[expert * numExperts + centroids[best]!]! ? i : best,
      0,
    );
    groups[at]!.push(expert);
  }
  return groups.map((members, i) => weightedGroup(members, saliency, centroids[i]!));
}

function nearness(cosine: number): number {
  return Number.isNaN(cosine) ? -2 : cosine;
}

function euclidean(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return Math.sqrt(sum);
}
