import { LayerEngine, chunks } from "../../compression/layer/layerEngine";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";

/** What all experts of a layer give on the same tokens, and what routing makes of it. E experts. */
export interface ExpertMoments {
  numExperts: number;
  tokens: number;
  /** [E, E]: mean over tokens of f_i . f_j. */
  gram: Float64Array;
  /** [E]: mean of f_i . r, r the routed sum with its weights. */
  cross: Float64Array;
  /** Mean of r . r. */
  energy: number;
  /** [E]: mean over the tokens routed to an expert of weight * ||f_e|| (REAP, arXiv 2510.13999); 0 without one. */
  reap: Float64Array;
  /** [E]: tokens routed to it. */
  frequency: Float64Array;
}

/** Tokens that one product takes, at most. */
const mostTokens = 1024;

/**
 * Sends a layer's tokens through every expert, a block of them at a time, so that memory holds the outputs of one block.
 *
 * @param maxTokens of the collected ones, the first
 */
export async function expertMoments(
  engine: LayerEngine,
  { moe, inputs, numTokens, selectedIds, routingWeights }: CollectedLayer,
  maxTokens: number,
): Promise<ExpertMoments> {
  const [E, H, k] = [moe.numExperts, inputs.width, moe.numExpertsPerToken];
  const tokens = Math.min(numTokens, maxTokens);
  const gram = new Float64Array(E * E);
  const [cross, reap, frequency] = [new Float64Array(E), new Float64Array(E), new Float64Array(E)];
  let energy = 0;
  for (const [from, to] of chunks(tokens, tokensAtOnce(E, H, engine.runtime.memoryBudgetBytes))) {
    const size = (to - from) * H;
    const x = inputs.read(from, to).slice();
    const all = new Float32Array(E * size);
    for (let e = 0; e < E; e++) all.set(await engine.expertOutput(moe, e, x, null), e * size);
    const routed = new Float32Array(size);
    for (let row = 0; row < to - from; row++) {
      for (let slot = (from + row) * k; slot < (from + row + 1) * k; slot++) {
        const [e, weight] = [selectedIds[slot]!, routingWeights[slot]!];
        let squares = 0;
        for (let c = 0; c < H; c++) {
          const value = all[e * size + row * H + c]!;
          routed[row * H + c]! += weight * value;
          squares += value * value;
        }
        frequency[e]!++;
        reap[e]! += weight * Math.sqrt(squares);
      }
    }
    addInto(gram, await engine.timesTransposed(all, all, size));
    addInto(cross, await engine.timesTransposed(all, routed, size));
    for (const value of routed) energy += value * value;
  }
  return {
    numExperts: E,
    tokens,
    gram: gram.map((sum) => sum / tokens),
    cross: cross.map((sum) => sum / tokens),
    energy: energy / tokens,
    reap: reap.map((sum, e) => sum / Math.max(1, frequency[e]!)),
    frequency,
  };
}

function tokensAtOnce(numExperts: number, hiddenSize: number, memoryBudgetBytes: number): number {
  const fitting = Math.floor(memoryBudgetBytes / 8 / (4 * numExperts * hiddenSize));
  return Math.max(16, Math.min(mostTokens, fitting));
}

/** Bytes that moments of a model's widest layer take: outputs of all experts for one block of tokens, their copy for the product, and the Gram matrix. */
export function momentsBytes(description: ModelDescription, tokens: number, memoryBudgetBytes: number): number {
  const H = description.hiddenSize;
  return moeLayers(description).reduce((most, { moe: { numExperts: E } }) => {
    const block = Math.min(tokens, tokensAtOnce(E, H, memoryBudgetBytes));
    return Math.max(most, 2 * 4 * E * H * block + 12 * E * E);
  }, 0);
}

function addInto(sum: Float64Array, part: Float32Array): void {
  for (let i = 0; i < part.length; i++) sum[i]! += part[i]!;
}
