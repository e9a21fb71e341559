import type { CollectedLayer } from "../../execution/collectLayers";
import { createRandom } from "../../tensor/random";
import { assignRows } from "../../linalg/hungarian";
import type { ExpertMatrices } from "../layer/expertMatrices";
import { gatherRows, type LayerEngine } from "../layer/layerEngine";

/** Tokens whose activations describe a unit. */
const sampledTokens = 512;

/** Each unit of an expert as two unit-length vectors: its activations on sampled tokens, and its weights. */
export interface UnitProfiles {
  units: number;
  /** [units, sampled tokens] */
  activations: Float32Array;
  /** [units, 3 H]: gate row, up row, down column. */
  weights: Float32Array;
}

/** Profiles of an expert's units; the same tokens for every expert of a layer. */
export async function unitProfiles(
  engine: LayerEngine,
  { layer, moe, inputs, numTokens }: CollectedLayer,
  expert: ExpertMatrices,
  seed: number,
): Promise<UnitProfiles> {
  const { intermediateSize: I, hiddenSize: H, gateProj, upProj, downProj } = expert;
  const sample = sampleTokens(numTokens, seed, layer.index);
  const h = await engine.intermediate(moe, expert, gatherRows(inputs, sample));
  const S = sample.length;
  const activations = new Float32Array(I * S);
  for (let t = 0; t < S; t++) for (let i = 0; i < I; i++) activations[i * S + t] = h[t * I + i]!;
  const weights = new Float32Array(I * 3 * H);
  for (let i = 0; i < I; i++) {
    weights.set(gateProj.subarray(i * H, (i + 1) * H), i * 3 * H);
    weights.set(upProj.subarray(i * H, (i + 1) * H), i * 3 * H + H);
    for (let j = 0; j < H; j++) weights[i * 3 * H + 2 * H + j] = downProj[j * I + i]!;
  }
  normaliseRows(activations, S);
  normaliseRows(weights, 3 * H);
  return { units: I, activations, weights };
}

/**
 * REAM's alignment (arXiv 2604.04356): the permutation with the smallest sum of distances between unit-length activation
 * vectors and between unit-length weight vectors. The authors shorten the weight vectors to 64 principal components to
 * save time; here the distances are exact.
 */
export async function matchByProfiles(
  engine: LayerEngine,
  reference: UnitProfiles,
  member: UnitProfiles,
): Promise<Int32Array> {
  const { units } = reference;
  const cost = new Float64Array(units * units);
  for (const field of ["activations", "weights"] as const) {
    const width = reference[field].length / units;
    const cosine = await engine.timesTransposed(reference[field], member[field], width);
    // Distance of unit vectors: sqrt(2 - 2 cos).
    for (let i = 0; i < cost.length; i++) cost[i]! += Math.sqrt(Math.max(0, 2 - 2 * cosine[i]!));
  }
  return assignRows(cost, units);
}

/** Up to 512 tokens, ascending, the same for the same seed and layer. */
function sampleTokens(numTokens: number, seed: number, layer: number): Int32Array {
  if (numTokens <= sampledTokens) return Int32Array.from({ length: numTokens }, (_, i) => i);
  const random = createRandom(seed, layer);
  const chosen = new Set<number>();
  while (chosen.size < sampledTokens) chosen.add(random.below(numTokens));
  return Int32Array.from(chosen).sort();
}

function normaliseRows(values: Float32Array, width: number): void {
  for (let from = 0; from < values.length; from += width) {
    let sum = 0;
    for (let i = from; i < from + width; i++) sum += values[i]! ** 2;
    const factor = sum > 0 ? 1 / Math.sqrt(sum) : 0;
    for (let i = from; i < from + width; i++) values[i]! *= factor;
  }
}
