import type { CollectedLayer } from "../../execution/collectLayers";
import { matrix, type Matrix } from "../../linalg/matrix";
import { addSquares, chunksOfExpert, routedTokens, rowsOfExpert, type RoutedTokens } from "../layer/expertInputs";
import type { ExpertMatrices } from "../layer/expertMatrices";
import { chunks, chunkTokens, gatherRows, type LayerEngine } from "../layer/layerEngine";

/** How a token counts in a Hessian: once, with its routing weight (MoEQuant), or with its square. */
export type HessianWeights = "plain" | "affinity" | "squared";

/** Tokens of the whole layer that stand in for an expert's where few are routed to it. */
const sharedTokens = 2048;

/** What an expert's projections see, per token: Hessians of gate and up [H, H] and of down [I, I]. */
export interface ExpertHessians {
  /** Tokens that were routed to it. */
  routed: number;
  /** Sum of their weights. */
  weight: number;
  inputs: Matrix;
  intermediates: Matrix;
  /** [I]: mean of |h| over its tokens. */
  meanIntermediates: Float64Array;
}

/**
 * Hessians of the experts of one layer, an expert at a time: (1 - mix) sum w x x^T / sum w of its own tokens, and `mix` times
 * the same of all tokens of the layer, which keeps experts that few tokens reach from fitting those alone.
 */
export class LayerHessians {
  readonly #routed: RoutedTokens[];
  #layerInputs: Promise<Matrix> | null = null;

  constructor(
    readonly engine: LayerEngine,
    readonly collected: CollectedLayer,
    readonly weights: HessianWeights,
    readonly mix: number,
  ) {
    this.#routed = routedTokens(collected);
  }

  routed(expert: number): number {
    return this.#routed[expert]!.tokens.length;
  }

  async of(expert: number, matrices: ExpertMatrices): Promise<ExpertHessians> {
    const { engine, collected } = this;
    const { hiddenSize: H, intermediateSize: I } = matrices;
    const [inputs, intermediates] = [new Float64Array(H * H), new Float64Array(I * I)];
    const meanIntermediates = new Float64Array(I);
    let total = 0;
    for await (const chunk of chunksOfExpert(engine, collected, this.#routed[expert]!, matrices)) {
      for (let at = 0; at < chunk.intermediates.length; at++)
        meanIntermediates[at % I]! += Math.abs(chunk.intermediates[at]!);
      const roots = chunk.weights.map((weight) => rootOf(this.weights, weight));
      for (const root of roots) total += root * root;
      scaleRows(chunk.rows, roots);
      scaleRows(chunk.intermediates, roots);
      await engine.addGram(chunk.rows, H, inputs);
      await engine.addGram(chunk.intermediates, I, intermediates);
    }
    const routed = this.routed(expert);
    for (let j = 0; j < I; j++) meanIntermediates[j]! /= Math.max(1, routed);
    const own = total > 0 ? (1 - this.mix) / total : 0;
    const [allInputs, allIntermediates] =
      this.mix > 0 ? [await this.#inputsOfLayer(), await this.#intermediatesOfLayer(matrices)] : [null, null];
    return {
      ...{ routed, weight: total },
      inputs: matrix(H, H, blend(inputs, own, allInputs?.data, this.mix)),
      intermediates: matrix(I, I, blend(intermediates, own, allIntermediates?.data, this.mix)),
      meanIntermediates,
    };
  }

  /** The diagonal of what gate and up of an expert see, and the sum of its tokens' weights. */
  async inputSquares(expert: number): Promise<{ weight: number; squares: Float64Array }> {
    const { width } = this.collected.inputs;
    const sums = new Float64Array(width);
    let weight = 0;
    for (const { rows, weights } of rowsOfExpert(this.collected, this.#routed[expert]!)) {
      const roots = weights.map((own) => rootOf(this.weights, own));
      for (const root of roots) weight += root * root;
      addSquares(sums, rows, roots);
    }
    const own = weight > 0 ? (1 - this.mix) / weight : 0;
    const all = this.mix > 0 ? (await this.#inputsOfLayer()).data : null;
    return { weight, squares: sums.map((sum, j) => own * sum + (all === null ? 0 : this.mix * all[j * width + j]!)) };
  }

  /** x x^T, mean over all tokens of the layer. */
  #inputsOfLayer(): Promise<Matrix> {
    this.#layerInputs ??= (async () => {
      const { inputs, numTokens } = this.collected;
      const H = inputs.width;
      const gram = new Float64Array(H * H);
      for (const [from, to] of chunks(numTokens, chunkTokens))
        await this.engine.addGram(inputs.read(from, to), H, gram);
      return matrix(
        H,
        H,
        gram.map((value) => value / Math.max(1, numTokens)),
      );
    })();
    return this.#layerInputs;
  }

  /** The same of what this expert would make of a sample of them. */
  async #intermediatesOfLayer(matrices: ExpertMatrices): Promise<Matrix> {
    const { inputs, numTokens, moe } = this.collected;
    const I = matrices.intermediateSize;
    const stride = Math.max(1, Math.ceil(numTokens / sharedTokens));
    const sample = Int32Array.from({ length: Math.ceil(numTokens / stride) }, (_, i) => i * stride);
    const gram = new Float64Array(I * I);
    for (const [from, to] of chunks(sample.length, chunkTokens)) {
      const rows = gatherRows(inputs, sample.subarray(from, to));
      await this.engine.addGram(await this.engine.intermediate(moe, matrices, rows), I, gram);
    }
    return matrix(
      I,
      I,
      gram.map((value) => value / Math.max(1, sample.length)),
    );
  }
}

/** The root of a token's weight, which multiplies its row. */
function rootOf(weights: HessianWeights, routingWeight: number): number {
  switch (weights) {
    case "plain":
      return 1;
    case "affinity":
      // Routing weights of some families may be negative.
      return Math.sqrt(Math.abs(routingWeight));
    case "squared":
      return Math.abs(routingWeight);
  }
}

function scaleRows(rows: Float32Array, factors: Float32Array): void {
  const width = rows.length / factors.length;
  for (let i = 0; i < rows.length; i++) rows[i]! *= factors[Math.floor(i / width)]!;
}

function blend(own: Float64Array, share: number, layer: Float64Array | undefined, mix: number): Float64Array {
  return own.map((value, i) => share * value + (layer === undefined ? 0 : mix * layer[i]!));
}
