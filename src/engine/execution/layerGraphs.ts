import { attention } from "../graph/blocks/attention";
import type { AttentionInputs } from "../graph/blocks/attentionHeads";
import { denseMlp } from "../graph/blocks/experts";
import { weightKey } from "../graph/blocks/weights";
import type { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { LayerDescription, MlpDescription, MoeDescription, RotaryDescription } from "../model/description";
import { Block, type LayerContext } from "./block";
import { attentionViews, feedForwardViews } from "./weightViews";

/**
 * Attention and dense feed-forward half of a decoder layer (expertGraphs.ts has the other kind), split where routing
 * decides:
 * - attention: x -> residual, feedForwardInput, routerLogits
 * - dense: residual, feedForwardInput -> hidden
 * and their gradients, which recompute the forward pass from the same inputs.
 */
export function attentionGraph(context: LayerContext, layer: LayerDescription): Graph {
  const block = new Block(context);
  const { residual, feedForwardInput, routerLogits } = attentionHalf(
    block,
    layer,
    sequenceInputs(block, layer, context),
  );
  return block.builder.build({ residual, feedForwardInput, ...(routerLogits === null ? {} : { routerLogits }) });
}

/**
 * Inputs of attentionGraph plus gradients dResidual, dFeedForwardInput, dRouterLogits; outputs dx (unless nothing below
 * needs it), `gradient:<key>` and, where the router trains, routerGradient: that of each sequence, [sequences, logits, H].
 */
export function attentionBackwardGraph(
  context: LayerContext,
  layer: LayerDescription,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { x, residual, feedForwardInput, routerInput, routerLogits } = attentionHalf(
    block,
    layer,
    sequenceInputs(block, layer, context),
  );
  const cotangents = [block.cotangent("dResidual", residual), block.cotangent("dFeedForwardInput", feedForwardInput)];
  const wrt = needsInputGradient ? { dx: x } : {};
  if (routerLogits === null || layer.feedForward.kind !== "moe") return block.buildGradients(cotangents, wrt);
  const ofLogits = block.cotangent("dRouterLogits", routerLogits);
  cotangents.push(ofLogits);
  const router = weightKey(layer.feedForward.router.weight);
  if (!context.trainable.has(router)) return block.buildGradients(cotangents, wrt);
  const routerGradient = routerGradients(block.builder, context, ofLogits.gradient, routerInput);
  return block.buildGradients(cotangents, wrt, { routerGradient }, router);
}

/** Inputs routerInput, dRouterLogits; output routerGradient as above: where nothing else of a layer's attention half trains. */
export function routerGradientGraph(context: LayerContext, logits: number): Graph {
  const { builder, hidden } = new Block(context);
  const [dRouterLogits, routerInput] = [
    builder.input("dRouterLogits", ["T", logits]),
    builder.input("routerInput", ["T", hidden]),
  ];
  return builder.build({ routerGradient: routerGradients(builder, context, dRouterLogits, routerInput) });
}

/** Of each sequence, [sequences, logits, H]. */
function routerGradients(
  builder: GraphBuilder,
  { sequenceLength }: LayerContext,
  dRouterLogits: Value,
  routerInput: Value,
): Value {
  const bySequence = (rows: Value) => builder.reshape(rows, ["B", sequenceLength, rows.shape[1]!]);
  return builder.matMul(bySequence(dRouterLogits), bySequence(routerInput), true);
}

export function denseGraph(context: LayerContext, layer: LayerDescription, mlp: MlpDescription): Graph {
  const block = new Block(context);
  const { hidden } = denseBlock(block, layer, mlp);
  return block.builder.build({ hidden });
}

/** Inputs of denseGraph plus dHidden; outputs dFeedForwardInput (unless nothing below needs it) and `gradient:<key>`. */
export function denseBackwardGraph(
  context: LayerContext,
  layer: LayerDescription,
  mlp: MlpDescription,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { hidden, feedForwardInput } = denseBlock(block, layer, mlp);
  const wrt = needsInputGradient ? { dFeedForwardInput: feedForwardInput } : {};
  return block.buildGradients([block.cotangent("dHidden", hidden)], wrt);
}

/** Inputs of whole sequences, which begin with their first token. */
function sequenceInputs(
  { builder }: Block,
  { attention }: LayerDescription,
  { sequenceLength: s }: LayerContext,
): AttentionInputs {
  const rotary = "rotary" in attention ? attention.rotary : null;
  return {
    sequenceLength: s,
    rotary: rotary === null ? null : rotaryInputs(builder, s, rotary),
    mask: builder.input("mask", [s, s]),
  };
}

/** From hidden states x, a graph input, to those behind attention and what the feed-forward half and its router read. */
export function attentionHalf(block: Block, layer: LayerDescription, inputs: AttentionInputs) {
  const { builder, weights, hidden } = block;
  block.declareTrainable(attentionViews(layer));
  const x = builder.input("x", ["T", hidden]);
  const input = weights.norm(x, layer.inputNorm);
  const mixed = attention(weights, input, layer.attention, inputs);
  const branch = weights.norm(mixed, layer.attentionOutputNorm);
  const residual = builder.add(x, builder.scale(branch, layer.residualMultiplier));
  const feedForwardInput = layer.parallel ? input : weights.norm(residual, layer.postAttentionNorm);
  const { feedForward } = layer;
  const seen = (moe: MoeDescription) => {
    const { input } = moe.router;
    return input ? builder.scale(weights.norm(residual, input.norm), input.scale) : feedForwardInput;
  };
  if (feedForward.kind !== "moe") return { x, residual, feedForwardInput, routerInput: null, routerLogits: null };
  const { weight, bias } = feedForward.router;
  const routerInput = seen(feedForward);
  const routerLogits = weights.linear(routerInput, { weight, bias, layout: "out-in" });
  return { x, residual, feedForwardInput, routerInput, routerLogits };
}

function rotaryInputs(builder: GraphBuilder, s: number, description: RotaryDescription) {
  const shape = [s, description.dims / 2];
  return { cos: builder.input("cos", shape), sin: builder.input("sin", shape), description };
}

function denseBlock(block: Block, layer: LayerDescription, mlp: MlpDescription) {
  block.declareTrainable(feedForwardViews(layer));
  const residual = block.builder.input("residual", ["T", block.hidden]);
  const feedForwardInput = block.builder.input("feedForwardInput", ["T", block.hidden]);
  return { hidden: denseHalf(block, layer, mlp, residual, feedForwardInput), feedForwardInput };
}

/** Hidden states behind a dense layer. Weights that train are declared by the caller. */
export function denseHalf(
  { builder, weights }: Block,
  layer: LayerDescription,
  mlp: MlpDescription,
  residual: Value,
  feedForwardInput: Value,
): Value {
  const output = weights.norm(denseMlp(weights, feedForwardInput, mlp), layer.feedForwardOutputNorm);
  return builder.add(residual, builder.scale(output, layer.feedForwardMultiplier));
}
