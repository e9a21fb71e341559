import type { CollectedLayer } from "../../execution/collectLayers";
import { readExpert } from "../layer/expertMatrices";
import { chunks, chunkTokens, gatherRows, tokensOfExperts, type LayerEngine } from "../layer/layerEngine";
import { matrix, type Matrix } from "../../linalg/matrix";

/** Tokens of the whole layer that stand in for those of an expert that few were routed to. */
const sharedTokens = 2048;

/** Gram matrices of what a layer's projections see: inputs of gate and up [H, H], of down [I, I]. */
export class LayerGrams {
  readonly #tokens: Int32Array[];
  #layerGram: Promise<Matrix> | null = null;
  readonly #perExpert = new Map<number, Promise<Matrix>>();

  /** @param mix share of the layer's mean Gram matrix that each expert's gets, so that rare experts stay well posed */
  constructor(
    readonly engine: LayerEngine,
    readonly collected: CollectedLayer,
    readonly mix: number,
  ) {
    this.#tokens = tokensOfExperts(collected);
  }

  /** Tokens routed to an expert. */
  routed(expert: number): number {
    return this.#tokens[expert]!.length;
  }

  /** X^T X over all tokens of the layer, [H, H]. */
  layerInputs(): Promise<Matrix> {
    this.#layerGram ??= (async () => {
      const { inputs, numTokens } = this.collected;
      const H = inputs.width;
      const gram = new Float64Array(H * H);
      for (const [from, to] of chunks(numTokens, chunkTokens))
        await this.engine.addGram(inputs.read(from, to), H, gram);
      return matrix(H, H, gram);
    })();
    return this.#layerGram;
  }

  /** X_e^T X_e + mix * the experts' mean Gram matrix (k/E of the layer's). Kept for the last expert asked for. */
  expertInputs(expert: number): Promise<Matrix> {
    let known = this.#perExpert.get(expert);
    if (known === undefined) {
      this.#perExpert.clear();
      known = this.#expertInputs(expert);
      this.#perExpert.set(expert, known);
    }
    return known;
  }

  /** The same for the intermediate activations of an expert, [I, I]; rare experts lean on a sample of all tokens. */
  async expertIntermediates(expert: number): Promise<Matrix> {
    const { moe, inputs, numTokens, layer } = this.collected;
    const weights = await readExpert(
      this.engine.checkpoint,
      moe.experts[expert]!,
      `expert ${expert} of layer ${layer.index}`,
    );
    const I = weights.intermediateSize;
    const add = async (tokens: Int32Array, gram: Float64Array) => {
      for (const [from, to] of chunks(tokens.length, chunkTokens)) {
        const x = gatherRows(inputs, tokens.subarray(from, to));
        await this.engine.addGram(await this.engine.intermediate(moe, weights, x), I, gram);
      }
    };
    const gram = new Float64Array(I * I);
    await add(this.#tokens[expert]!, gram);
    if (this.mix > 0) {
      const stride = Math.max(1, Math.ceil(numTokens / sharedTokens));
      const sample = Int32Array.from({ length: Math.floor(numTokens / stride) }, (_, i) => i * stride);
      const shared = new Float64Array(I * I);
      await add(sample, shared);
      const scale = (this.mix * stride * moe.numExpertsPerToken) / moe.numExperts;
      for (let i = 0; i < gram.length; i++) gram[i]! += scale * shared[i]!;
    }
    return matrix(I, I, gram);
  }

  async #expertInputs(expert: number): Promise<Matrix> {
    const { inputs, moe } = this.collected;
    const H = inputs.width;
    const gram = new Float64Array(H * H);
    const tokens = this.#tokens[expert]!;
    for (const [from, to] of chunks(tokens.length, chunkTokens)) {
      await this.engine.addGram(gatherRows(inputs, tokens.subarray(from, to)), H, gram);
    }
    if (this.mix > 0) {
      const layer = (await this.layerInputs()).data;
      const scale = (this.mix * moe.numExpertsPerToken) / moe.numExperts;
      for (let i = 0; i < gram.length; i++) gram[i]! += scale * layer[i]!;
    }
    return matrix(H, H, gram);
  }
}
