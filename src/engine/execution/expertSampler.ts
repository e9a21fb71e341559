import type { MoeDescription } from "../model/description";
import { sigmoid, softmaxRow } from "../model/selection";
import { numLogits } from "../model/moeLayers";

/** What a layer selected for some rows, which a sampler may change. */
export interface RoutedSample {
  layer: number;
  moe: MoeDescription;
  /** [rows, logits] */
  routerLogits: Float32Array;
  /** Index of the first row in the executor's batch. */
  firstToken: number;
  /** [rows, k], ascending in each row */
  ids: Int32Array;
}

export interface ExpertSampler {
  sample: (selection: RoutedSample) => void;
}

/** Uniform numbers in (0, 1) that decide a layer's draws. Must depend on nothing but what they are asked for. */
export interface UniformSource {
  /** Of a token: below lambda it is sampled. */
  coin: (layer: number, token: number) => number;
  /** Of a token, one for each expert, into `out`. */
  race: (layer: number, token: number, out: Float64Array) => void;
}

/**
 * Knowledge Augmentation (arXiv 2502.12947): each token of each layer draws, with probability lambda, its k experts without
 * replacement by the router's probabilities p (softmax(z), or sigmoid(z) over its sum); all others keep the k of largest
 * selection score. Drawn as a race, the k largest p_e / -ln u_e (Efraimidis and Spirakis 2006), ties to the lower id.
 */
export function augmentedRouting(lambda: number, uniforms: UniformSource): ExpertSampler {
  return {
    sample: ({ layer, moe, routerLogits, firstToken, ids }) => {
      const experts = numLogits(moe);
      const k = moe.numExpertsPerToken;
      const scores = new Float32Array(experts);
      const race = new Float64Array(experts);
      for (let row = 0; row * k < ids.length; row++) {
        const token = firstToken + row;
        if (uniforms.coin(layer, token) >= lambda) continue;
        probabilities(moe, routerLogits, row * experts, scores);
        uniforms.race(layer, token, race);
        for (let e = 0; e < experts; e++) race[e] = scores[e]! / -Math.log(race[e]!);
        ids.set(largest(race, k), row * k);
      }
    },
  };
}

/** Router probabilities of one row, up to a common factor, which a race does not see. */
function probabilities({ routing }: MoeDescription, logits: Float32Array, from: number, row: Float32Array): void {
  if (routing.kind !== "sigmoid") softmaxRow(logits, from, row);
  else for (let e = 0; e < row.length; e++) row[e] = sigmoid(logits[from + e]!);
}

/** Ids of the k largest, ascending. */
function largest(keys: Float64Array, k: number): number[] {
  return Array.from(keys, (_, e) => e)
    .sort((a, b) => keys[b]! - keys[a]! || a - b)
    .slice(0, k)
    .sort((a, b) => a - b);
}
