import type { DenseChoice, DenseLayerPlan, DenseScales } from "../../../protocol/denseStudent";
import type { ExpertMoments } from "./expertMoments";

/** Share of the mean diagonal that is added where scales are fitted to few tokens. */
const ridgeShare = 1e-4;

/**
 * Chooses `count` experts: those of largest REAP score, those most tokens are routed to, or one by one the expert that lowers
 * the error of the fitted sum most. Ties go to the lower number.
 *
 * @param equal what each output is multiplied by where scales are not fitted
 * @param ridge share of the mean diagonal of the Gram matrix that is added to it for the fit
 */
export function chooseDense(
  moments: ExpertMoments,
  { count, choose, scales, equal }: { count: number; choose: DenseChoice; scales: DenseScales; equal: number },
  ridge = ridgeShare,
): DenseLayerPlan {
  const experts = choose === "greedy" ? greedy(moments, count, ridge) : best(moments[choose], count);
  const factors = scales === "fitted" ? fittedScales(moments, experts, ridge) : experts.map(() => equal);
  return { experts, scales: factors, residual: residualOf(moments, experts, factors) };
}

function best(scores: Float64Array, count: number): number[] {
  return Array.from(scores.keys())
    .sort((a, b) => scores[b]! - scores[a]! || a - b)
    .slice(0, count);
}

function greedy(moments: ExpertMoments, count: number, ridge: number): number[] {
  const chosen: number[] = [];
  while (chosen.length < count) {
    let next = -1;
    let most = -Infinity;
    for (let e = 0; e < moments.numExperts; e++) {
      if (chosen.includes(e)) continue;
      const trial = [...chosen, e];
      const fitted = fittedScales(moments, trial, ridge);
      // b^T (G + ridge)^-1 b: what the fit explains.
      const gain = trial.reduce((sum, one, i) => sum + moments.cross[one]! * fitted[i]!, 0);
      if (gain > most) [next, most] = [e, gain];
    }
    chosen.push(next);
  }
  return chosen;
}

/** (G_SS + ridge mean(diag G_SS) I)^-1 b_S, by Cholesky's decomposition. */
function fittedScales({ gram, cross, numExperts }: ExpertMoments, experts: readonly number[], ridge: number): number[] {
  const n = experts.length;
  const diagonal = experts.reduce((sum, e) => sum + gram[e * numExperts + e]!, 0) / n;
  const lower = Array.from({ length: n }, () => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = gram[experts[i]! * numExperts + experts[j]!]! + (i === j ? ridge * diagonal : 0);
      for (let p = 0; p < j; p++) sum -= lower[i]![p]! * lower[j]![p]!;
      // An expert that is a multiple of others explains nothing more.
      if (i === j) lower[i]![i] = sum > 1e-12 * diagonal ? Math.sqrt(sum) : Infinity;
      else lower[i]![j] = sum / lower[j]![j]!;
    }
  }
  const half = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let sum = cross[experts[i]!]!;
    for (let p = 0; p < i; p++) sum -= lower[i]![p]! * half[p]!;
    half[i] = sum / lower[i]![i]!;
  }
  const solution = new Array<number>(n).fill(0);
  for (let i = n - 1; i >= 0; i--) {
    let sum = half[i]!;
    for (let p = i + 1; p < n; p++) sum -= lower[p]![i]! * solution[p]!;
    solution[i] = sum / lower[i]![i]!;
  }
  return solution;
}

/** (e - 2 b^T s + s^T G s) / e */
function residualOf(
  { gram, cross, energy, numExperts }: ExpertMoments,
  experts: readonly number[],
  scales: readonly number[],
): number {
  let error = energy;
  experts.forEach((a, i) => {
    error -= 2 * cross[a]! * scales[i]!;
    experts.forEach((b, j) => (error += scales[i]! * scales[j]! * gram[a * numExperts + b]!));
  });
  return error / energy;
}
