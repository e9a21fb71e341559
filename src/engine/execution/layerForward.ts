import type { LayerDescription } from "../model/description";
import type { AttentionRunner } from "./attentionRunner";
import type { FeedForwardRunner } from "./feedForwardRunner";
import { checkLayerOutput } from "./finite";
import type { Leaves } from "./leaves";
import type { ForwardOptions } from "./passOptions";
import type { LayerTape } from "./tape";

/** A chunk of tokens, whole sequences, in front of a layer. */
export interface LayerRows {
  /** [tokens, hidden] */
  x: Float32Array;
  /** Index of the first one in the batch. */
  firstToken: number;
  /** 1 for tokens that count, of the batch from `validFrom` (default 0) on; absent: all count. */
  valid: Uint8Array | undefined;
  validFrom?: number;
}

/** One layer's forward pass over one chunk: attention, routing, experts. */
export class LayerForward {
  constructor(
    readonly attention: AttentionRunner,
    readonly feedForward: FeedForwardRunner,
    readonly leaves: Leaves,
    /** By layer number, experts that are not selected. */
    readonly blocked: ReadonlyMap<number, readonly number[]> | undefined,
  ) {}

  /** [tokens, hidden] behind the layer. */
  async forward(
    layer: LayerDescription,
    { x, firstToken, valid, validFrom = 0 }: LayerRows,
    { observer, collectOutputs = false, onFeedForward }: ForwardOptions,
    taped: LayerTape | null,
  ): Promise<Float32Array> {
    const { feedForward, index } = layer;
    taped?.x.write(firstToken, x);
    const input = await this.attention.forward(layer, x);
    checkLayerOutput(input.residual, index, "attention");
    taped?.feedForwardInput.write(firstToken, input.feedForwardInput);
    taped?.residual?.write(firstToken, input.residual);
    let output: Float32Array;
    if (feedForward.kind === "mlp") {
      output = await this.feedForward.forwardDense(layer, feedForward, input);
    } else {
      const { sequences, sequenceLength } = this.leaves;
      const blocked = this.blocked?.get(index);
      const ids = this.feedForward.select(index, feedForward, input.routerLogits!, firstToken, blocked);
      taped?.routerLogits?.write(firstToken, input.routerLogits!);
      const isInLeaf = firstToken % (sequences * sequenceLength) > 0;
      const first = firstToken - validFrom;
      const ofRows = valid?.subarray(first, first + ids.length / feedForward.numExpertsPerToken);
      const chunk = { input, firstToken, valid: ofRows, isInLeaf };
      output = await this.feedForward.forwardExperts(layer, feedForward, chunk, ids, observer, collectOutputs);
    }
    checkLayerOutput(output, index, "feed-forward part");
    onFeedForward?.(index, firstToken, input.residual, output);
    return output;
  }
}
