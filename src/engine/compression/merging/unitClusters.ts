import type { ExpertMatrices } from "../layer/expertMatrices";

/** Correlation [n, n] from a Gram matrix, column sums and the number of rows; 0 where a column does not vary. */
export function correlation(gram: Float64Array, sums: Float64Array, rows: number): Float32Array {
  const n = sums.length;
  const deviation = new Float64Array(n);
  for (let i = 0; i < n; i++) deviation[i] = Math.sqrt(Math.max(0, gram[i * n + i]! / rows - (sums[i]! / rows) ** 2));
  const result = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const scale = deviation[i]! * deviation[j]!;
      if (scale > 0) result[i * n + j] = (gram[i * n + j]! / rows - (sums[i]! * sums[j]!) / rows ** 2) / scale;
    }
  }
  return result;
}

/**
 * ZipIt without unmerging, as HC-SMoE's code does it: while more than `keep` units are left, join the two most correlated;
 * the joined unit's correlation with any other is 0.1 * min of both. Overwrites `similarity` [n, n]. Ties go to the lower
 * units.
 *
 * @returns members of each remaining unit, ascending, ordered by first member
 */
export function zipUnits(similarity: Float32Array, n: number, keep: number): number[][] {
  for (let i = 0; i < n; i++) similarity[i * n + i] = -1;
  const alive = Array.from({ length: n }, (_, i) => i);
  const members = alive.map((i) => [i]);
  const best = new Int32Array(n);
  const findBest = (i: number) => {
    let found = -1;
    for (const j of alive) if (j !== i && (found < 0 || similarity[i * n + j]! > similarity[i * n + found]!)) found = j;
    best[i] = found;
  };
  alive.forEach(findBest);
  while (alive.length > keep) {
    let i = alive[0]!;
    for (const a of alive) if (similarity[a * n + best[a]!]! > similarity[i * n + best[i]!]!) i = a;
    const [low, high] = i < best[i]! ? [i, best[i]!] : [best[i]!, i];
    members[low]!.push(...members[high]!);
    alive.splice(alive.indexOf(high), 1);
    for (const j of alive) {
      if (j === low) continue;
      const joined = 0.1 * Math.min(similarity[low * n + j]!, similarity[high * n + j]!);
      similarity[low * n + j] = joined;
      similarity[j * n + low] = joined;
    }
    for (const j of alive) {
      if (j === low || best[j] === low || best[j] === high) findBest(j);
      else if (similarity[j * n + low]! > similarity[j * n + best[j]!]!) best[j] = low;
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
