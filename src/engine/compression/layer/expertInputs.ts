import type { CollectedLayer } from "../../execution/collectLayers";
import type { ExpertMatrices } from "./expertMatrices";
import { chunks, chunkTokens, gatherRows, type LayerEngine } from "./layerEngine";

/** Tokens routed to one expert, ascending, and the routing weight of each. */
export interface RoutedTokens {
  tokens: Int32Array;
  weights: Float32Array;
}

/** What is routed to each expert of a layer. */
export function routedTokens({ moe, numTokens, selectedIds, routingWeights }: CollectedLayer): RoutedTokens[] {
  const k = moe.numExpertsPerToken;
  const counts = new Int32Array(moe.numExperts);
  for (let slot = 0; slot < numTokens * k; slot++) counts[selectedIds[slot]!]!++;
  const lists = Array.from(counts, (n) => ({ tokens: new Int32Array(n), weights: new Float32Array(n) }));
  counts.fill(0);
  for (let slot = 0; slot < numTokens * k; slot++) {
    const expert = selectedIds[slot]!;
    const at = counts[expert]!++;
    lists[expert]!.tokens[at] = Math.floor(slot / k);
    lists[expert]!.weights[at] = routingWeights[slot]!;
  }
  return lists;
}

/** A chunk of what an expert sees: rows [count, hidden], its intermediate activations [count, I], and the routing weights. */
export interface ExpertInputs {
  rows: Float32Array;
  intermediates: Float32Array;
  /** [count]: what multiplies the output; 1 where routing weights go to the input, where `rows` has them already. */
  weights: Float32Array;
}

/** What gate and up of one expert read of the calibration text, a chunk of tokens at a time, whatever the number of tokens. */
export function* rowsOfExpert(
  { moe, inputs }: CollectedLayer,
  { tokens, weights }: RoutedTokens,
): Generator<Pick<ExpertInputs, "rows" | "weights">> {
  for (const [from, to] of chunks(tokens.length, chunkTokens)) {
    const rows = gatherRows(inputs, tokens.subarray(from, to));
    const own = weights.slice(from, to);
    if (moe.weightsInput) {
      for (let i = 0; i < rows.length; i++) rows[i]! *= own[Math.floor(i / inputs.width)]!;
      own.fill(1);
    }
    yield { rows, weights: own };
  }
}

/** The same, and what its down projection reads. */
export async function* chunksOfExpert(
  engine: LayerEngine,
  collected: CollectedLayer,
  routed: RoutedTokens,
  expert: ExpertMatrices,
): AsyncGenerator<ExpertInputs> {
  for (const { rows, weights } of rowsOfExpert(collected, routed)) {
    yield { rows, intermediates: await engine.intermediate(collected.moe, expert, rows), weights };
  }
}

/** Adds (factor_t a_tj)^2 over the rows t of a [rows, width] to `sums` [width]. */
export function addSquares(sums: Float64Array, a: Float32Array, factors: Float32Array | null): void {
  const width = sums.length;
  for (let t = 0, at = 0; at < a.length; t++, at += width) {
    const factor = factors === null ? 1 : factors[t]! ** 2;
    for (let j = 0; j < width; j++) sums[j]! += factor * a[at + j]! * a[at + j]!;
  }
}

/** L2 norms over tokens of what an expert's projections see. */
export interface InputNorms {
  /** [hidden], of gate and up. */
  hidden: Float64Array;
  /** [I], of down. */
  intermediate: Float64Array;
}

/** @param weighted each token counts with its routing weight (MoE-Pruner), not once (Wanda) */
export async function inputNorms(
  engine: LayerEngine,
  collected: CollectedLayer,
  routed: RoutedTokens,
  expert: ExpertMatrices,
  weighted: boolean,
): Promise<InputNorms> {
  const hidden = new Float64Array(expert.hiddenSize);
  const intermediate = new Float64Array(expert.intermediateSize);
  for await (const { rows, intermediates, weights } of chunksOfExpert(engine, collected, routed, expert)) {
    const factors = weighted ? weights : null;
    addSquares(hidden, rows, factors);
    addSquares(intermediate, intermediates, factors);
  }
  return { hidden: hidden.map(Math.sqrt), intermediate: intermediate.map(Math.sqrt) };
}
