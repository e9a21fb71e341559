/** One join of two clusters. Leaves are clusters 0..n-1; the i-th join makes cluster n + i. */
export interface Join {
  left: number;
  right: number;
  /** Mean distance between the members of both. */
  distance: number;
  size: number;
}

/**
 * Average linkage (UPGMA): joins the two clusters with the smallest mean pairwise distance until one is left.
 * `distances` is [n, n], symmetric. Ties go to the pair with the lowest ids. `left` is the cluster with the lower first
 * member. About n^2 steps with a cached nearest neighbour a row.
 */
export function averageLinkage(distances: Float64Array, n: number): Join[] {
  const d = Float64Array.from(distances);
  // Slot s holds one cluster; a join keeps the lower slot, so a slot's number is its cluster's lowest member.
  const cluster = Array.from({ length: n }, (_, i) => i);
  const size = new Int32Array(n).fill(1);
  const alive = Array.from({ length: n }, (_, i) => i);
  const nearest = new Int32Array(n);
  const findNearest = (a: number): void => {
    let best = -1;
    for (const b of alive) if (b > a && (best < 0 || d[a * n + b]! < d[a * n + best]!)) best = b;
    nearest[a] = best;
  };
  alive.forEach(findNearest);

  const joins: Join[] = [];
  while (alive.length > 1) {
    let a = -1;
    for (const s of alive) {
      if (nearest[s]! < 0) continue;
      if (a < 0 || d[s * n + nearest[s]!]! < d[a * n + nearest[a]!]!) a = s;
    }
    const b = nearest[a]!;
    const joined = size[a]! + size[b]!;
    joins.push({ left: cluster[a]!, right: cluster[b]!, distance: d[a * n + b]!, size: joined });
    alive.splice(alive.indexOf(b), 1);
    // Lance-Williams update for the average: weights are the cluster sizes.
    for (const s of alive) {
      if (s === a) continue;
      const mean = (size[a]! * d[a * n + s]! + size[b]! * d[b * n + s]!) / joined;
      d[a * n + s] = mean;
      d[s * n + a] = mean;
    }
    size[a] = joined;
    cluster[a] = n + joins.length - 1;
    for (const s of alive) {
      if (s === a || nearest[s] === a || nearest[s] === b) findNearest(s);
      else if (s < a && d[s * n + a]! <= d[s * n + nearest[s]!]!) findNearest(s);
    }
  }
  return joins;
}

/** Leaves from left to right of the dendrogram. */
export function dendrogramOrder(joins: readonly Join[], n: number): number[] {
  const order: number[] = [];
  const open = [joins.length === 0 ? 0 : n + joins.length - 1];
  while (open.length > 0 && n > 0) {
    const id = open.pop()!;
    if (id < n) order.push(id);
    else open.push(joins[id - n]!.right, joins[id - n]!.left);
  }
  return order;
}

/** Clusters when exactly `count` of them are left, each ascending, ordered by lowest member. */
export function cutToClusters(joins: readonly Join[], n: number, count: number): number[][] {
  const members = new Map<number, number[]>(Array.from({ length: n }, (_, i) => [i, [i]]));
  joins.slice(0, Math.max(0, n - count)).forEach(({ left, right }, i) => {
    members.set(
      n + i,
      [...members.get(left)!, ...members.get(right)!].sort((x, y) => x - y),
    );
    members.delete(left);
    members.delete(right);
  });
  return [...members.values()].sort((x, y) => x[0]! - y[0]!);
}
