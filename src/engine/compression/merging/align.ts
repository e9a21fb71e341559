import { assignRows } from "../../linalg/hungarian";
import type { ExpertMatrices } from "../layer/expertMatrices";
import type { LayerEngine } from "../layer/layerEngine";

/**
 * Unit of `member` that takes the place of each unit of `reference`: the permutation with the smallest
 * sum_ij ||up_i - up'_j||^2 + ||gate_i - gate'_j||^2 + ||down_:i - down'_:j||^2 (weight matching, Ainsworth et al. 2023;
 * REAP's M-SMoE). Norms do not depend on the permutation, so the inner products alone decide; biases count as one more
 * input. Permuting units changes nothing of what an expert computes.
 */
export async function matchByWeights(
  engine: LayerEngine,
  reference: ExpertMatrices,
  member: ExpertMatrices,
): Promise<Int32Array> {
  const { intermediateSize: I, hiddenSize: H } = reference;
  const cost = new Float64Array(I * I);
  for (const [a, b] of [
    [reference.gateProj, member.gateProj],
    [reference.upProj, member.upProj],
  ] as const) {
    subtract(cost, await engine.timesTransposed(a, b, H));
  }
  await engine.addCross(reference.downProj, I, negated(member.downProj), I, cost);
  for (const [a, b] of [
    [reference.gateBias, member.gateBias],
    [reference.upBias, member.upBias],
  ] as const) {
    if (a && b) for (let i = 0; i < I; i++) for (let j = 0; j < I; j++) cost[i * I + j]! -= a[i]! * b[j]!;
  }
  return assignRows(cost, I);
}

/** The expert with its units reordered: new unit i is old unit order[i]. */
export function permuteUnits(expert: ExpertMatrices, order: ArrayLike<number>): ExpertMatrices {
  const { intermediateSize: I, hiddenSize: H, gateBias, upBias } = expert;
  const rows = (from: Float32Array) => {
    const to = new Float32Array(from.length);
    for (let i = 0; i < I; i++) to.set(from.subarray(order[i]! * H, (order[i]! + 1) * H), i * H);
    return to;
  };
  const downProj = new Float32Array(H * I);
  for (let h = 0; h < H; h++) for (let i = 0; i < I; i++) downProj[h * I + i] = expert.downProj[h * I + order[i]!]!;
  const entries = (from: Float32Array | null) => from && Float32Array.from({ length: I }, (_, i) => from[order[i]!]!);
  return {
    ...expert,
    gateProj: rows(expert.gateProj),
    upProj: rows(expert.upProj),
    downProj,
    gateBias: entries(gateBias),
    upBias: entries(upBias),
  };
}

function subtract(cost: Float64Array, products: Float32Array): void {
  for (let i = 0; i < cost.length; i++) cost[i]! -= products[i]!;
}

function negated(values: Float32Array): Float32Array {
  return values.map((value) => -value);
}
