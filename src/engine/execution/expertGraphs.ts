import { combineRows, dispatchRows, expertOutput, sharedExperts, weightedExpertOutput } from "../graph/blocks/experts";
import { routingWeightsBlock } from "../graph/blocks/routing";
import type { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { KeptMass, LayerDescription, MoeDescription } from "../model/description";
import { Block, type BlockContext } from "./block";
import type { ExpertGroup } from "./expertGroups";
import { numLogits } from "../model/moeLayers";
import { viewsOfExperts, viewsIn } from "./weightViews";

/*
 * The MoE half of a decoder layer in three steps, so that no graph holds more experts than compile quickly:
 * - routing: routerLogits, selectedIds -> routingWeights [T, k], rowWeights [R, 1]
 * - rows, for each group of experts: feedForwardInput, its rows' tokens and weights -> rows [R, H]
 * - combine: residual, feedForwardInput, rows -> hidden
 * A row is one token at one expert; T tokens make R = T k rows, those of expert 0 first.
 */

/** What of a layer its experts need beside themselves. */
export interface ExpertLayer extends Pick<
  LayerDescription,
  "feedForwardMultiplier" | "feedForwardOutputNorm" | "scalar"
> {
  /** Names the layer among those of a cache of sessions. */
  index: number | string;
}

/** Inputs routerLogits, selectedIds, rowOfSlot, slotOfRow; outputs routingWeights, rowWeights. Few families have weights here. */
export function routingGraph(context: BlockContext, moe: MoeDescription): Graph {
  const block = new Block(context);
  const { perSlot, rowWeights } = routing(block, moe);
  return block.builder.build({ routingWeights: perSlot, rowWeights });
}

/**
 * Inputs feedForwardInput, tokenOfRow, splitSizes, rowWeights; output rows: the outputs of a group's experts, weighted. With unit
 * masks also unitMask [experts, I].
 */
export function expertRowsGraph(context: BlockContext, moe: MoeDescription, group: ExpertGroup): Graph {
  const block = new Block(context);
  const mask = context.unitMasks && block.builder.input("unitMask", [group.to - group.from, moe.intermediateSize]);
  return block.builder.build({ rows: block.builder.concat(expertRows(block, moe, group, mask).outputs, 0, "R") });
}

/** Inputs of expertRowsGraph plus dHidden; outputs dRows [R, H] (unless nothing needs it), dRowWeights and `gradient:<key>`. */
export function expertRowsBackwardGraph(
  context: BlockContext,
  layer: ExpertLayer,
  moe: MoeDescription,
  group: ExpertGroup,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { builder } = block;
  const { outputs, tokens, inputRows, rowWeights } = expertRows(block, moe, group);
  const dHidden = builder.input("dHidden", ["T", block.hidden]);
  const dRouted = builder.scale(dHidden, layer.feedForwardMultiplier * moe.routedMultiplier);
  const cotangents = dispatchRows(builder, dRouted, tokens).map((gradient, e) => ({
    output: outputs[e]!,
    gradient,
  }));
  const wrt = [...rowWeights, ...(needsInputGradient ? inputRows : [])];
  const { of, trainable } = block.gradients(cotangents, wrt);
  return builder.build({
    dRowWeights: builder.concat(of.slice(0, rowWeights.length), 0, "R"),
    ...(needsInputGradient ? { dRows: builder.concat(of.slice(rowWeights.length), 0, "R") } : {}),
    ...trainable,
  });
}

/**
 * expertRowsGraph with what profiling looks at: inputs also validRows [R, 1], outputs also norms, maxima and absoluteMaxima
 * [R, 1] of each row's expert output and sums [experts, H] over the rows that are valid. Where it goes on, the input
 * sumsBefore [experts, H] comes in front of the rows: rows are added one after another, so that it does not matter how
 * they are cut (test/engine/execution/leaves.test.ts holds onnxruntime to it).
 */
export function observedExpertRowsGraph(
  context: BlockContext,
  moe: MoeDescription,
  group: ExpertGroup,
  goesOn: boolean,
): Graph {
  const block = new Block(context);
  const { builder, weights } = block;
  const { tokens, rowWeights, column: splitColumn } = groupInputs(block, group);
  const inputRows = dispatchRows(builder, builder.input("feedForwardInput", ["T", block.hidden]), tokens);
  const seenRows = inputRows.map((rows, i) => (moe.weightsInput ? builder.mul(rows, rowWeights[i]!) : rows));
  const outputs = seenRows.map((rows, i) => expertOutput(weights, rows, moe.experts[group.from + i]!, moe));
  const valid = splitColumn("validRows");
  const before = goesOn ? builder.input("sumsBefore", [group.to - group.from, block.hidden]) : null;
  const fromStart = (rows: Value, e: number, number: string) =>
    before === null ? rows : builder.concat([builder.slice(before, 0, e, e + 1), rows], 0, number);
  const squared = (value: Value) => builder.mul(value, value);
  const column = (of: (output: Value) => Value) => builder.concat(outputs.map(of), 0, "R");
  return builder.build({
    rows: builder.concat(
      outputs.map((output, e) => (moe.weightsInput ? output : builder.mul(output, rowWeights[e]!))),
      0,
      "R",
    ),
    norms: column((output) => builder.sqrt(builder.reduceSum(squared(output), [1], true))),
    maxima: column((output) => builder.reduceMax(output, [1], true)),
    absoluteMaxima: column((output) => builder.reduceMax(builder.abs(output), [1], true)),
    sums: builder.concat(
      outputs.map((output, e) => builder.reduceSum(fromStart(builder.mul(output, valid[e]!), e, `N${e}`), [0], true)),
      0,
    ),
  });
}

/**
 * Inputs rows, rowOfSlot, residual, feedForwardInput; output hidden = residual + multiplier * (routed + shared experts),
 * with the norms and the scalar of layers that have them. Where profiling looks, also inputOutputCosine [T, 1]:
 * cos(residual, residual + multiplier * routed).
 */
export function combineGraph(context: BlockContext, layer: ExpertLayer, moe: MoeDescription, observed: boolean): Graph {
  const block = new Block(context);
  const { builder } = block;
  const { residual, routed, hidden } = combine(block, layer, moe);
  const added = builder.scale(routed, layer.feedForwardMultiplier);
  return builder.build({
    hidden,
    ...(observed ? { inputOutputCosine: cosine(builder, residual, builder.add(residual, added)) } : {}),
  });
}

/** Whether more than a sum lies between the experts' rows and the layer's output. */
export function hasTail(
  { feedForwardOutputNorm, scalar }: ExpertLayer,
  { routedNorm, shared }: MoeDescription,
): boolean {
  return (feedForwardOutputNorm ?? scalar ?? routedNorm ?? shared?.inputNorm ?? shared?.outputNorm ?? null) !== null;
}

/** Whether hidden states reach such a layer's output by another way than the plain sum. */
export function readsResidual({ scalar }: Pick<ExpertLayer, "scalar">, { shared }: MoeDescription): boolean {
  return scalar !== undefined || shared?.inputNorm !== undefined;
}

/**
 * Gradients of what lies between the experts' rows and the output of a layer that has more than a sum there: inputs of
 * combineGraph and dHidden; outputs dRouted [T, H], in the sum of the rows, dFeedForwardInput (null gradients left out),
 * dResidual where that is not dHidden, and `gradient:<key>` of norms, scalar and shared experts.
 */
export function tailBackwardGraph(context: BlockContext, layer: ExpertLayer, moe: MoeDescription): Graph {
  const block = new Block(context);
  const { residual, sum, hidden, feedForwardInput } = combine(block, layer, moe);
  const wrt = {
    dRouted: sum,
    ...(readsResidual(layer, moe) ? { dResidual: residual } : {}),
    ...(feedForwardInput === null ? {} : { dFeedForwardInput: feedForwardInput }),
  };
  return block.buildGradients([block.cotangent("dHidden", hidden)], wrt);
}

/**
 * Gradients of routing and combine: inputs of routingGraph plus dRowWeights and, as far as they are needed, dRows,
 * feedForwardInput and dHidden; outputs dRouterLogits, dFeedForwardInput (unless nothing below needs it) and `gradient:<key>`.
 */
export function combineBackwardGraph(
  context: BlockContext,
  layer: ExpertLayer,
  moe: MoeDescription,
  needsInputGradient: boolean,
): Graph {
  const block = new Block(context);
  const { builder } = block;
  const { rowWeights, routerLogits, rowOfSlot } = routing(block, moe);
  const shared = sharedOutput(block, moe, null);
  const cotangents = [block.cotangent("dRowWeights", rowWeights)];
  if (shared !== null) {
    const dHidden = builder.input("dHidden", ["T", block.hidden]);
    cotangents.push({ output: shared.output, gradient: builder.scale(dHidden, layer.feedForwardMultiplier) });
  }
  const read = shared?.feedForwardInput ?? null;
  const wrt = read !== null && needsInputGradient ? [routerLogits, read] : [routerLogits];
  const { of, trainable } = block.gradients(cotangents, wrt);
  const outputs: Record<string, Value> = { dRouterLogits: of[0]!, ...trainable };
  if (needsInputGradient) {
    const dRouted = combineRows(builder, builder.input("dRows", ["R", block.hidden]), rowOfSlot, moe);
    outputs["dFeedForwardInput"] = of[1] === undefined ? dRouted : builder.add(of[1], dRouted);
  }
  return builder.build(outputs);
}

function routing(block: Block, moe: MoeDescription) {
  const { builder, weights } = block;
  const routerLogits = builder.input("routerLogits", ["T", numLogits(moe)]);
  const ids = builder.input("selectedIds", ["T", moe.numExpertsPerToken], "int32");
  const rowOfSlot = rowOfSlotInput(builder);
  const kept = keptMassOf(moe);
  const ownIds = kept && builder.input("ownIds", ["T", kept.numExpertsPerToken], "int32");
  const own = routingWeightsBlock(builder, routerLogits, ids, moe.routing, ownIds);
  const { expertScale } = moe.router;
  block.declareTrainable(viewsIn(expertScale));
  const scales = expertScale && builder.expandLike(weights.float(expertScale), routerLogits);
  const perSlot = scales === undefined ? own : builder.mul(own, builder.gatherElements(scales, ids, 1));
  const column = builder.reshape(perSlot, ["R", 1]);
  const rowWeights = builder.permuteRows(column, builder.input("slotOfRow", ["R"], "int32"), rowOfSlot);
  return { routerLogits, rowOfSlot, perSlot, rowWeights };
}

/** What a routing that keeps the family's own mass goes by; null for all others, whose graphs have no input `ownIds`. */
export function keptMassOf({ routing }: Pick<MoeDescription, "routing">): KeptMass | null {
  return routing.kind === "sparse-mixer" ? null : (routing.keepsMass ?? null);
}

function rowOfSlotInput(builder: GraphBuilder): Value {
  return builder.input("rowOfSlot", ["R"], "int32");
}

/** Weighted outputs of a group's experts, one value each. */
function expertRows(block: Block, moe: MoeDescription, group: ExpertGroup, unitMask?: Value) {
  const experts = moe.experts.slice(group.from, group.to);
  block.declareTrainable(viewsOfExperts(experts));
  const { tokens, rowWeights } = groupInputs(block, group);
  const x = block.builder.input("feedForwardInput", ["T", block.hidden]);
  const inputRows = dispatchRows(block.builder, x, tokens);
  const outputs = experts.map((expert, i) => {
    const mask = unitMask && block.builder.slice(unitMask, 0, i, i + 1);
    return weightedExpertOutput(block.weights, inputRows[i]!, rowWeights[i]!, expert, moe, mask);
  });
  return { tokens, inputRows, rowWeights, outputs };
}

/** What routing decided, one value for each expert: its rows' tokens [rows] and weights [rows, 1]. */
function groupInputs({ builder }: Block, { from, to }: ExpertGroup) {
  const sizes = builder.input("splitSizes", [to - from], "int64");
  const names = Array.from({ length: to - from }, (_, i) => `rows${from + i}`);
  const column = (name: string) => builder.splitRows(builder.input(name, ["R", 1]), sizes, names);
  return {
    tokens: builder.splitRows(builder.input("tokenOfRow", ["R"], "int32"), sizes, names),
    rowWeights: column("rowWeights"),
    column,
  };
}

/** From the experts' rows to the layer's output. */
function combine(block: Block, layer: ExpertLayer, moe: MoeDescription) {
  const { builder, weights } = block;
  const { feedForwardOutputNorm, feedForwardMultiplier, scalar } = layer;
  block.declareTrainable(viewsIn([feedForwardOutputNorm, scalar, moe.routedNorm]));
  const residual = builder.input("residual", ["T", block.hidden]);
  const rows = builder.input("rows", ["R", block.hidden]);
  const sum = builder.scale(combineRows(builder, rows, rowOfSlotInput(builder), moe), moe.routedMultiplier);
  const routed = weights.norm(sum, moe.routedNorm ?? null);
  const shared = sharedOutput(block, moe, residual);
  const branch = weights.norm(shared === null ? routed : builder.add(routed, shared.output), feedForwardOutputNorm);
  const added = builder.add(residual, builder.scale(branch, feedForwardMultiplier));
  const hidden = scalar === undefined ? added : builder.mul(added, weights.float(scalar));
  return { residual, sum, routed, hidden, feedForwardInput: shared?.feedForwardInput ?? null };
}

/** The shared experts' output, null without them, and what they read unless it is the hidden states. */
function sharedOutput(block: Block, moe: MoeDescription, residual: Value | null) {
  if (moe.shared === null) return null;
  block.declareTrainable(viewsIn(moe.shared));
  const own = moe.shared.inputNorm === undefined ? null : residual;
  const input = own ?? block.builder.input("feedForwardInput", ["T", block.hidden]);
  return { output: sharedExperts(block.weights, input, moe.shared), feedForwardInput: own === null ? input : null };
}

/** cos(a, b) of each row, [T, 1]; rows of zeros give 0. */
function cosine(builder: GraphBuilder, a: Value, b: Value): Value {
  const dot = (x: Value, y: Value) => builder.reduceSum(builder.mul(x, y), [1], true);
  const lengths = builder.sqrt(builder.mul(dot(a, a), dot(b, b)));
  return builder.div(dot(a, b), builder.add(lengths, builder.constant([1e-30])));
}
