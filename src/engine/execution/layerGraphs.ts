import { appendBackward, type Cotangent } from "../autodiff/backward";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { attention } from "../graph/blocks/attention";
import { denseMlp, routedExperts, sharedExperts, unweightedExperts, weightsOfRows } from "../graph/blocks/experts";
import { routingWeights } from "../graph/blocks/routing";
import { BlockWeights, weightKey } from "../graph/blocks/weights";
import { attentionViews, feedForwardViews } from "./weightViews";
import { GraphBuilder, type ExpertAssignment } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type {
  LayerDescription,
  ModelDescription,
  MoeDescription,
  RotaryDescription,
  WeightView,
} from "../model/description";

/**
 * The two blocks of a decoder layer, split where routing decides:
 * - attention: x -> residual, feedForwardInput, routerLogits
 * - feedForward: residual, feedForwardInput, routerLogits, selected experts -> hidden, routingWeights
 * and their gradients, which recompute the forward pass from the same inputs.
 */
export interface LayerContext {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  /** Weights given as graph inputs `weight:<key>`, with gradients as outputs `gradient:<key>`: routers, and what else trains. */
  trainable: ReadonlySet<string>;
}

export function attentionGraph(context: LayerContext, layer: LayerDescription): Graph {
  const block = new Block(context);
  const { residual, feedForwardInput, routerLogits } = attentionBlock(block, layer);
  return block.builder.build({ residual, feedForwardInput, ...(routerLogits === null ? {} : { routerLogits }) });
}

/**
 * Inputs of attentionGraph plus gradients dResidual, dFeedForwardInput, dRouterLogits; outputs dx (unless nothing below
 * needs it) and `gradient:<key>`.
 */
export function attentionBackwardGraph(
  context: LayerContext,
  layer: LayerDescription,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { x, residual, feedForwardInput, routerLogits } = attentionBlock(block, layer);
  const cotangents = [block.cotangent("dResidual", residual), block.cotangent("dFeedForwardInput", feedForwardInput)];
  if (routerLogits !== null) cotangents.push(block.cotangent("dRouterLogits", routerLogits));
  return block.buildGradients(cotangents, needsInputGradient ? { dx: x } : {});
}

export function feedForwardGraph(context: LayerContext, layer: LayerDescription): Graph {
  const block = new Block(context);
  const { outputs } = feedForwardBlock(block, layer);
  return block.builder.build(outputs);
}

/** Inputs of feedForwardGraph plus dHidden; outputs dFeedForwardInput, dRouterLogits and `gradient:<key>`. */
export function feedForwardBackwardGraph(
  context: LayerContext,
  layer: LayerDescription,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { outputs, feedForwardInput, routerLogits } = feedForwardBlock(block, layer);
  return block.buildGradients([block.cotangent("dHidden", outputs["hidden"])], {
    ...(needsInputGradient ? { dFeedForwardInput: feedForwardInput } : {}),
    ...(routerLogits === null ? {} : { dRouterLogits: routerLogits }),
  });
}

/** feedForwardGraph with what profiling looks at: see ExpertOutputObservation for shapes. */
export function observedExpertsGraph(context: LayerContext, layer: LayerDescription, moe: MoeDescription): Graph {
  const block = new Block(context);
  const { builder, weights } = block;
  const { residual, feedForwardInput, routerLogits, ids, assignment } = expertInputs(block, moe, block.hidden);
  const perSlot = routingWeights(builder, routerLogits, ids, moe.routing);
  const outputs = unweightedExperts(weights, feedForwardInput, moe, assignment);
  const rowWeights = weightsOfRows(weights, perSlot, assignment);
  const routed = builder.combine(
    outputs.map((output, e) => builder.mul(output, rowWeights[e]!)),
    assignment,
  );
  const valid = weightsOfRows(weights, builder.input("validSlots", ["T", moe.numExpertsPerToken]), assignment);
  const toSlots = (columns: Value[]) =>
    builder.permuteRows(builder.concat(columns, 0, assignment.rowsDim), assignment.rowOfSlot, assignment.slotOfRow);
  const squared = (value: Value) => builder.mul(value, value);
  return builder.build({
    hidden: addFeedForward(block, residual, feedForwardInput, routed, layer),
    routingWeights: perSlot,
    norms: toSlots(outputs.map((output) => builder.sqrt(builder.reduceSum(squared(output), [1], true)))),
    maxima: toSlots(outputs.map((output) => builder.reduceMax(output, [1], true))),
    absoluteMaxima: toSlots(outputs.map((output) => builder.reduceMax(builder.abs(output), [1], true))),
    sums: builder.concat(
      outputs.map((output, e) => builder.reduceSum(builder.mul(output, valid[e]!), [0], true)),
      0,
    ),
    inputOutputCosine: cosine(builder, residual, builder.add(residual, routed)),
  });
}

/** Where every graph of a layer starts: its builder and weights, with the trainable ones as inputs. */
class Block {
  readonly builder = new GraphBuilder();
  readonly weights: BlockWeights;
  readonly hidden: number;
  readonly #trainableInputs = new Map<string, Value>();

  constructor(readonly context: LayerContext) {
    this.hidden = context.description.hiddenSize;
    this.weights = new BlockWeights(this.builder, context.checkpoint, this.#trainableInputs);
  }

  /** Declares the trainable weights among those that this block uses. */
  declareTrainable(views: readonly WeightView[]): void {
    for (const view of views) {
      const key = weightKey(view);
      if (this.context.trainable.has(key))
        this.#trainableInputs.set(key, this.builder.input(`weight:${key}`, view.shape));
    }
  }

  cotangent(name: string, output: Value): Cotangent {
    return { output, gradient: this.builder.input(name, output.shape) };
  }

  buildGradients(cotangents: Cotangent[], wrt: Record<string, Value>): Graph {
    const wanted = [
      ...Object.entries(wrt),
      ...[...this.#trainableInputs].map(([key, value]) => [`gradient:${key}`, value] as const),
    ];
    const gradients = appendBackward(
      this.builder,
      cotangents,
      wanted.map(([, value]) => value),
    );
    const outputs = wanted.map(([name, value], i) => [name, gradients[i] ?? this.#zeros(value)] as const);
    return this.builder.build(Object.fromEntries(outputs));
  }

  #zeros(value: Value): Value {
    return this.builder.expandLike(this.builder.constant([0]), value);
  }
}

function attentionBlock(block: Block, layer: LayerDescription) {
  const { builder, weights, hidden, context } = block;
  const s = context.sequenceLength;
  block.declareTrainable(attentionViews(layer));
  const x = builder.input("x", ["T", hidden]);
  const rotary = context.description.rotary === null ? null : rotaryInputs(builder, s, context.description.rotary);
  const mask = builder.input("mask", [s, s]);
  const mixed = attention(weights, weights.norm(x, layer.inputNorm), layer.attention, {
    sequenceLength: s,
    rotary,
    mask,
  });
  const residual = builder.add(x, builder.scale(mixed, layer.residualMultiplier));
  const feedForwardInput = weights.norm(residual, layer.postAttentionNorm);
  const { feedForward } = layer;
  const routerLogits =
    feedForward.kind === "moe"
      ? weights.linear(feedForwardInput, {
          weight: feedForward.router.weight,
          bias: feedForward.router.bias,
          layout: "out-in",
        })
      : null;
  return { x, residual, feedForwardInput, routerLogits };
}

function rotaryInputs(builder: GraphBuilder, s: number, description: RotaryDescription) {
  const shape = [s, description.dims / 2];
  return { cos: builder.input("cos", shape), sin: builder.input("sin", shape), description };
}

function feedForwardBlock(block: Block, layer: LayerDescription) {
  const { builder, weights } = block;
  const { feedForward } = layer;
  block.declareTrainable(feedForwardViews(layer));
  if (feedForward.kind === "mlp") {
    const residual = builder.input("residual", ["T", block.hidden]);
    const feedForwardInput = builder.input("feedForwardInput", ["T", block.hidden]);
    const output = denseMlp(weights, feedForwardInput, feedForward);
    const hidden = builder.add(residual, builder.scale(output, layer.residualMultiplier));
    return { outputs: { hidden }, feedForwardInput, routerLogits: null };
  }
  const { residual, feedForwardInput, routerLogits, ids, assignment } = expertInputs(block, feedForward, block.hidden);
  const perSlot = routingWeights(builder, routerLogits, ids, feedForward.routing);
  const routed = routedExperts(weights, feedForwardInput, perSlot, feedForward, assignment);
  const hidden = addFeedForward(block, residual, feedForwardInput, routed, layer);
  return { outputs: { hidden, routingWeights: perSlot } as Record<string, Value>, feedForwardInput, routerLogits };
}

function expertInputs({ builder }: Block, moe: MoeDescription, hidden: number) {
  const k = moe.numExpertsPerToken;
  const numLogits = moe.logicalToPhysical?.length ?? moe.numExperts;
  const assignment: ExpertAssignment = {
    tokenOfRow: builder.input("tokenOfRow", ["R"], "int32"),
    splitSizes: builder.input("splitSizes", [moe.numExperts], "int64"),
    rowOfSlot: builder.input("rowOfSlot", ["R"], "int32"),
    slotOfRow: builder.input("slotOfRow", ["R"], "int32"),
    numSlots: k,
    tokensDim: "T",
    rowsDim: "R",
    rowDims: moe.experts.map((_, e) => `rows${e}`),
  };
  return {
    residual: builder.input("residual", ["T", hidden]),
    feedForwardInput: builder.input("feedForwardInput", ["T", hidden]),
    routerLogits: builder.input("routerLogits", ["T", numLogits]),
    ids: builder.input("selectedIds", ["T", k], "int32"),
    assignment,
  };
}

/** residual + multiplier * (routed experts + shared experts). */
function addFeedForward(
  { builder, weights }: Block,
  residual: Value,
  x: Value,
  routed: Value,
  layer: LayerDescription,
): Value {
  const shared = layer.feedForward.kind === "moe" ? sharedExperts(weights, x, layer.feedForward) : null;
  const output = shared === null ? routed : builder.add(routed, shared);
  return builder.add(residual, builder.scale(output, layer.residualMultiplier));
}

/** cos(a, b) of each row, [T, 1]; rows of zeros give 0. */
function cosine(builder: GraphBuilder, a: Value, b: Value): Value {
  const dot = (x: Value, y: Value) => builder.reduceSum(builder.mul(x, y), [1], true);
  const lengths = builder.sqrt(builder.mul(dot(a, a), dot(b, b)));
  return builder.div(dot(a, b), builder.add(lengths, builder.constant([1e-30])));
}
