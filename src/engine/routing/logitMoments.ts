import { RerouteError } from "../../protocol/errors";
import type { MoeObservation } from "../execution/observer";

/** Of each token's router logits z, in float64. */
export interface LogitMoments {
  /** [tokens] log sum exp(z) */
  logPartitions: Float64Array;
  /** [tokens] mean of z under softmax(z) */
  weightedSums: Float64Array;
  /** [tokens, k] softmax(z) at the selected experts */
  selectedProbabilities: Float64Array;
}

/**
 * @param domains of each token, -1 for those that do not count: theirs stay 0
 * @throws RerouteError `checkpoint/not-finite`
 */
export function momentsOf(seen: MoeObservation, domains: Int16Array): LogitMoments {
  const { layer, routerLogits, selectedIds, numTokens, numRouterRows, numExpertsPerToken: k } = seen;
  const logPartitions = new Float64Array(numTokens);
  const weightedSums = new Float64Array(numTokens);
  const selectedProbabilities = new Float64Array(numTokens * k);
  for (let t = 0; t < numTokens; t++) {
    if (domains[t]! < 0) continue;
    const from = t * numRouterRows;
    const to = from + numRouterRows;
    let largest = -Infinity;
    for (let i = from; i < to; i++) if (routerLogits[i]! > largest) largest = routerLogits[i]!;
    let partition = 0;
    let weighted = 0;
    for (let i = from; i < to; i++) {
      const value = routerLogits[i]!;
      const exponential = Math.exp(value - largest);
      partition += exponential;
      weighted += exponential * value;
    }
    if (!Number.isFinite(partition) || !Number.isFinite(weighted)) throw logitsNotFinite(layer);
    const logPartition = largest + Math.log(partition);
    logPartitions[t] = logPartition;
    weightedSums[t] = weighted / partition;
    for (let slot = t * k; slot < (t + 1) * k; slot++)
      selectedProbabilities[slot] = Math.exp(routerLogits[from + selectedIds[slot]!]! - logPartition);
  }
  return { logPartitions, weightedSums, selectedProbabilities };
}

/** Entropy of softmax(z) of one token, in nats. */
export function tokenEntropy(seen: MoeObservation, token: number): number {
  const { numRouterRows, numExpertsPerToken: k } = seen;
  const routerLogits = seen.routerLogits.subarray(token * numRouterRows, (token + 1) * numRouterRows);
  const selectedIds = seen.selectedIds.subarray(token * k, (token + 1) * k);
  const { logPartitions, weightedSums } = momentsOf(
    { ...seen, numTokens: 1, routerLogits, selectedIds },
    new Int16Array(1),
  );
  return logPartitions[0]! - weightedSums[0]!;
}

function logitsNotFinite(layer: number): RerouteError {
  return new RerouteError(
    "checkpoint/not-finite",
    `The router of layer ${layer} gives logits that are not finite numbers while profiling; check this layer's weights with "reroute inspect"`,
  );
}

/** Logits that addOuterProducts turns at a time, so that they stay in a core's cache. */
const turnedLogits = 2 ** 14;

/**
 * Sums over the tokens that count of z z^T, the upper triangle only (mirrorGram completes it when the statistics are read), and
 * of z. A number's tokens are added one after another; numbers of a row go four at a time, each in a register.
 */
export function addOuterProducts(
  gram: Float64Array,
  sum: Float64Array,
  logits: Float32Array,
  domains: Int16Array,
): void {
  const E = sum.length;
  const most = Math.max(16, Math.floor(turnedLogits / E));
  // [E, most]
  const columns = new Float64Array(E * most);
  for (let t = 0; t < domains.length;) {
    let n = 0;
    for (; t < domains.length && n < most; t++) {
      if (domains[t]! < 0) continue;
      for (let e = 0; e < E; e++) columns[e * most + n] = logits[t * E + e]!;
      n++;
    }
    for (let a = 0; a < E; a++) {
      let total = sum[a]!;
      for (let i = a * most; i < a * most + n; i++) total += columns[i]!;
      sum[a] = total;
      let b = a;
      for (; b + 4 <= E; b += 4) addFourProducts(gram, a * E + b, columns, a * most, b * most, most, n);
      for (; b < E; b++) {
        let product = gram[a * E + b]!;
        for (let i = 0; i < n; i++) product += columns[a * most + i]! * columns[b * most + i]!;
        gram[a * E + b] = product;
      }
    }
  }
}

/** Adds to four neighbours of the gram matrix, from `at` on, n products of a column with four columns `stride` apart. */
function addFourProducts(
  gram: Float64Array,
  at: number,
  columns: Float64Array,
  one: number,
  four: number,
  stride: number,
  n: number,
): void {
  const [second, third, fourth] = [four + stride, four + 2 * stride, four + 3 * stride];
  let [s0, s1, s2, s3] = [gram[at]!, gram[at + 1]!, gram[at + 2]!, gram[at + 3]!];
  for (let i = 0; i < n; i++) {
    const z = columns[one + i]!;
    s0 += z * columns[four + i]!;
    s1 += z * columns[second + i]!;
    s2 += z * columns[third + i]!;
    s3 += z * columns[fourth + i]!;
  }
  gram[at] = s0;
  gram[at + 1] = s1;
  gram[at + 2] = s2;
  gram[at + 3] = s3;
}
