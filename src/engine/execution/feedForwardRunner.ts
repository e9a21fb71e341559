import type { LayerDescription, MoeDescription } from "../model/description";
import { selectExperts } from "../model/selection";
import type { Tensor } from "../runtime/session";
import { assignExperts } from "./assignment";
import type { AttentionOutput } from "./attentionRunner";
import { feedForwardBackwardGraph, feedForwardGraph, observedExpertsGraph, type LayerContext } from "./layerGraphs";
import { numLogits } from "./moeLayers";
import type { RoutingObserver } from "./observer";
import { addGradients, type Parameters } from "./parameters";
import type { SessionCache } from "./sessionCache";
import { float32, floats } from "./tensors";
import { feedForwardViews } from "./weightViews";

/** A chunk of tokens on its way through one layer's experts. */
export interface ExpertChunk {
  input: AttentionOutput;
  /** Index of the chunk's first token in the batch. */
  firstToken: number;
  /** 1 for tokens of the batch that count; absent: all count. */
  valid: Uint8Array | undefined;
}

/** Runs the feed-forward half of a layer: routing decides in TypeScript, each expert runs once on its own tokens. */
export class FeedForwardRunner {
  constructor(
    readonly context: LayerContext,
    readonly sessions: SessionCache,
    readonly parameters: Parameters,
    /** [numExperts] by layer, for families whose selection adds one. */
    readonly correctionBiases: ReadonlyMap<number, Float32Array>,
  ) {}

  /** Hidden states after a dense layer. */
  async forwardDense(layer: LayerDescription, { residual, feedForwardInput }: AttentionOutput): Promise<Float32Array> {
    const session = await this.sessions.get(`mlp ${layer.index}`, () => feedForwardGraph(this.context, layer));
    const feeds = { residual: this.#rows(residual), feedForwardInput: this.#rows(feedForwardInput) };
    return floats((await session.run({ ...feeds, ...this.#weights(layer) }))["hidden"]!);
  }

  /** [rows, k] experts of each token, by the family's rule. */
  select(layer: number, moe: MoeDescription, routerLogits: Float32Array): Int32Array {
    const rows = routerLogits.length / numLogits(moe);
    const ids = new Int32Array(rows * moe.numExpertsPerToken);
    const bias = this.correctionBiases.get(layer) ?? null;
    selectExperts(moe.routing, routerLogits, rows, numLogits(moe), moe.numExpertsPerToken, bias, ids);
    return ids;
  }

  /** Hidden states after an MoE layer. */
  async forwardExperts(
    layer: LayerDescription,
    moe: MoeDescription,
    { input: { residual, feedForwardInput, routerLogits }, firstToken, valid }: ExpertChunk,
    ids: Int32Array,
    observer: RoutingObserver | undefined,
    collectOutputs: boolean,
  ): Promise<Float32Array> {
    const k = moe.numExpertsPerToken;
    const numTokens = ids.length / k;
    const observed = observer !== undefined && collectOutputs;
    const session = observed
      ? await this.sessions.get(`observed ${layer.index}`, () => observedExpertsGraph(this.context, layer, moe))
      : await this.sessions.get(`experts ${layer.index}`, () => feedForwardGraph(this.context, layer));
    const outputs = await session.run({
      residual: this.#rows(residual),
      feedForwardInput: this.#rows(feedForwardInput),
      routerLogits: float32(routerLogits!, [numTokens, numLogits(moe)]),
      ...assignExperts(ids, numTokens, k, moe.numExperts, moe.logicalToPhysical),
      ...(observed ? { validSlots: float32(validSlots(valid, firstToken, numTokens, k), [numTokens, k]) } : {}),
      ...this.#weights(layer),
    });
    observer?.observe({
      layer: layer.index,
      numTokens,
      numExperts: numLogits(moe),
      numExpertsPerToken: k,
      hiddenSize: this.context.description.hiddenSize,
      firstToken,
      routerLogits: routerLogits!,
      selectedIds: ids,
      routingWeights: floats(outputs["routingWeights"]!),
      feedForwardInput,
      outputs: observed
        ? {
            norms: floats(outputs["norms"]!),
            maxima: floats(outputs["maxima"]!),
            absoluteMaxima: floats(outputs["absoluteMaxima"]!),
            sums: floats(outputs["sums"]!),
            inputOutputCosine: floats(outputs["inputOutputCosine"]!),
          }
        : null,
    });
    return floats(outputs["hidden"]!);
  }

  /**
   * Adds to the parameters' gradients.
   * @param taped the chunk's inputs, and the selection that the gradient is taken for
   * @returns gradients in the block's inputs; null where not needed or not there
   */
  async backward(
    layer: LayerDescription,
    taped: { feedForwardInput: Float32Array; routerLogits: Float32Array; selectedIds: Int32Array },
    dHidden: Float32Array,
    needsInputGradient: boolean,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<{ dFeedForwardInput: Float32Array | null; dRouterLogits: Float32Array | null }> {
    const { feedForward, index } = layer;
    const session = await this.sessions.get(`${feedForward.kind} backward ${index} ${needsInputGradient}`, () =>
      feedForwardBackwardGraph(this.context, layer, needsInputGradient),
    );
    const feeds: Record<string, Tensor> = {
      feedForwardInput: this.#rows(taped.feedForwardInput),
      dHidden: this.#rows(dHidden),
      ...this.#weights(layer),
    };
    if (feedForward.kind === "moe") {
      const { numExpertsPerToken: k, numExperts, logicalToPhysical } = feedForward;
      const numTokens = taped.selectedIds.length / k;
      feeds["routerLogits"] = float32(taped.routerLogits, [numTokens, numLogits(feedForward)]);
      Object.assign(feeds, assignExperts(taped.selectedIds, numTokens, k, numExperts, logicalToPhysical));
    }
    const outputs = await session.run(feeds);
    addGradients(outputs, gradients);
    const { dFeedForwardInput, dRouterLogits } = outputs;
    return {
      dFeedForwardInput: dFeedForwardInput === undefined ? null : floats(dFeedForwardInput),
      dRouterLogits: dRouterLogits === undefined ? null : floats(dRouterLogits),
    };
  }

  /** The trained weights that this half of a layer takes. */
  #weights(layer: LayerDescription): Record<string, Tensor> {
    return this.parameters.feeds(`feed-forward ${layer.index}`, () => feedForwardViews(layer));
  }

  #rows(data: Float32Array): Tensor {
    const width = this.context.description.hiddenSize;
    return float32(data, [data.length / width, width]);
  }
}

/** 1 for the slots of tokens that count, [rows, k]. */
function validSlots(valid: Uint8Array | undefined, firstToken: number, rows: number, k: number): Float32Array {
  const slots = new Float32Array(rows * k).fill(1);
  if (valid === undefined) return slots;
  for (let slot = 0; slot < slots.length; slot++) slots[slot] = valid[firstToken + Math.floor(slot / k)]!;
  return slots;
}
