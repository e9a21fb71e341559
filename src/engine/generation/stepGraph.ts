import { AttentionPast } from "../graph/blocks/attentionPast";
import type { Graph } from "../graph/graph";
import type { LayerDescription } from "../model/description";
import { Block, type LayerContext } from "../execution/block";
import { attentionHalf, denseHalf } from "../execution/layerGraphs";
import { feedForwardViews } from "../execution/weightViews";

/**
 * A layer over new tokens and a past: attention with its router, and the whole of a dense layer, in one graph. Softmax
 * attention takes any number of sequences and of new tokens in each, so a prompt and a single token share the graph and
 * its weights; layers that carry a state take `context.sequenceLength` new tokens.
 *
 * Inputs x [T, H], those of AttentionPast, mask, cos and sin [B, 1, S, dims / 2]; outputs `new:<name>`, and hidden of a
 * dense layer, else residual, feedForwardInput and routerLogits.
 */
export function stepGraph(context: LayerContext, layer: LayerDescription): Graph {
  const block = new Block(context);
  const { builder } = block;
  const past = new AttentionPast(builder);
  const rotary = "rotary" in layer.attention ? layer.attention.rotary : null;
  const angles = (name: string, dims: number) => builder.input(name, ["B", 1, "S", dims / 2]);
  const { residual, feedForwardInput, routerLogits } = attentionHalf(block, layer, {
    sequenceLength: context.sequenceLength,
    rotary: rotary && {
      cos: angles("cos", rotary.dims),
      sin: angles("sin", rotary.dims),
      description: rotary,
    },
    mask: builder.input("mask", ["B", 1, 1, "S", "N"]),
    past,
  });
  const { feedForward } = layer;
  if (feedForward.kind === "moe") {
    return builder.build({ residual, feedForwardInput, routerLogits: routerLogits!, ...past.kept });
  }
  block.declareTrainable(feedForwardViews(layer));
  const hidden = denseHalf(block, layer, feedForward, residual, feedForwardInput);
  return builder.build({ hidden, ...past.kept });
}

/** Whether the layer's graph is for one number of new tokens. */
export function needsFixedLength({ attention }: LayerDescription): boolean {
  return attention.kind === "gated-delta" || attention.kind === "short-conv";
}
