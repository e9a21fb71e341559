import type { ExpertMatrices } from "../layer/expertMatrices";

/** A symmetric matrix [n, n]: row i holds columns 0..i. Each row is an array of its own, as long ones have limits. */
export type Triangle<Row> = Row[];

export function zeroTriangle(n: number): Triangle<Float64Array> {
  return Array.from({ length: n }, (_, i) => new Float64Array(i + 1));
}

/**
 * Correlation from a Gram matrix, column sums and the number of rows; 0 where a column does not vary. Takes the Gram matrix's rows
 * away one by one, so that both are never there as a whole.
 */
export function correlation(gram: Triangle<Float64Array>, sums: Float64Array, rows: number): Triangle<Float32Array> {
  const deviation = gram.map((row, i) => Math.sqrt(Math.max(0, row[i]! / rows - (sums[i]! / rows) ** 2)));
  const none = new Float64Array(0);
  return gram.map((row, i) => {
    gram[i] = none;
    return Float32Array.from(row, (product, j) => {
      const scale = deviation[i]! * deviation[j]!;
      return scale > 0 ? (product / rows - (sums[i]! * sums[j]!) / rows ** 2) / scale : 0;
    });
  });
}

/**
 * ZipIt without unmerging, as HC-SMoE's code does it: while more than `keep` units are left, join the two most correlated;
 * the joined unit's correlation with any other is 0.1 * min of both. Overwrites `similarity`. Ties go to the lower units.
 *
 * @returns members of each remaining unit, ascending, ordered by first member
 */
export function zipUnits(similarity: Triangle<Float32Array>, keep: number): number[][] {
  const alive = similarity.map((_, i) => i);
  const members = alive.map((i) => [i]);
  const between = (i: number, j: number) => (i > j ? similarity[i]![j]! : similarity[j]![i]!);
  const best = new Int32Array(alive.length).fill(-1);
  const findBest = (i: number) => {
    let found = -1;
    for (const j of alive) if (j !== i && (found < 0 || between(i, j) > between(i, found))) found = j;
    best[i] = found;
  };
  // In the order of the rows, each unit still meets the others from the lowest on.
  for (const [i, row] of similarity.entries()) {
    for (let j = 0; j < i; j++) {
      if (best[i]! < 0 || row[j]! > row[best[i]!]!) best[i] = j;
      if (best[j]! < 0 || row[j]! > between(j, best[j]!)) best[j] = i;
    }
  }
  while (alive.length > keep) {
    let i = alive[0]!;
    for (const a of alive) if (between(a, best[a]!) > between(i, best[i]!)) i = a;
    const [low, high] = i < best[i]! ? [i, best[i]!] : [best[i]!, i];
    members[low]!.push(...members[high]!);
    alive.splice(alive.indexOf(high), 1);
    for (const j of alive) {
      if (j === low) continue;
      const joined = 0.1 * Math.min(between(low, j), between(high, j));
      if (low > j) similarity[low]![j] = joined;
      else similarity[j]![low] = joined;
    }
    for (const j of alive) {
      if (j === low || best[j] === low || best[j] === high) findBest(j);
      else if (between(j, low) > between(j, best[j]!)) best[j] = low;
    }
  }
  return alive.map((i) => members[i]!.sort((a, b) => a - b));
}

/** Where a unit of the concatenated experts comes from, and what it counts. */
export interface UnitSource {
  expert: number;
  unit: number;
  weight: number;
}

/**
 * One expert whose unit i is made of the units listed for it: gate and up rows are weighted means. Down columns are the
 * weighted mean too ("mean", as HC-SMoE), or sum_u share_u * column_u ("sum"), where `shares` of the experts add up to 1:
 * what keeps the sum of the units' contributions.
 */
export function combineUnits(
  experts: readonly ExpertMatrices[],
  clusters: readonly (readonly UnitSource[])[],
  down: "mean" | "sum",
  shares: readonly number[],
): ExpertMatrices {
  const { hiddenSize: H } = experts[0]!;
  const I = clusters.length;
  const gateProj = new Float32Array(I * H);
  const upProj = new Float32Array(I * H);
  const downProj = new Float32Array(H * I);
  const biased = experts[0]!.gateBias !== null;
  const gateBias = biased ? new Float32Array(I) : null;
  const upBias = biased ? new Float32Array(I) : null;
  clusters.forEach((cluster, i) => {
    const total = cluster.reduce((sum, { weight }) => sum + weight, 0);
    for (const { expert, unit, weight } of cluster) {
      const from = experts[expert]!;
      const share = total > 0 ? weight / total : 1 / cluster.length;
      const downShare = down === "mean" ? share : shares[expert]!;
      for (let h = 0; h < H; h++) {
        gateProj[i * H + h]! += share * from.gateProj[unit * H + h]!;
        upProj[i * H + h]! += share * from.upProj[unit * H + h]!;
        downProj[h * I + i]! += downShare * from.downProj[h * from.intermediateSize + unit]!;
      }
      if (gateBias) gateBias[i]! += share * from.gateBias![unit]!;
      if (upBias) upBias[i]! += share * from.upBias![unit]!;
    }
  });
  const downBias = experts[0]!.downBias && new Float32Array(H);
  if (downBias) {
    experts.forEach((from, e) => from.downBias!.forEach((value, h) => (downBias[h]! += shares[e]! * value)));
  }
  return { intermediateSize: I, hiddenSize: H, gateProj, upProj, downProj, gateBias, upBias, downBias };
}
