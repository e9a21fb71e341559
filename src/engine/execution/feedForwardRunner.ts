import type { LayerDescription, MlpDescription, MoeDescription } from "../model/description";
import { selectExperts } from "../model/selection";
import type { Tensor } from "../runtime/session";
import { assignExperts, type Assignment } from "./assignment";
import type { AttentionOutput } from "./attentionRunner";
import type { LayerContext } from "./block";
import { denseBackwardGraph, denseGraph } from "./layerGraphs";
import { numLogits } from "../model/moeLayers";
import { keptMassOf } from "./expertGraphs";
import type { ExpertSampler } from "./expertSampler";
import type { RoutingObserver } from "./observer";
import { addGradients, type Parameters } from "./parameters";
import { RoutedExperts } from "./routedExperts";
import type { ChosenRows, InputGradients, RoutedChunk } from "./routedChunk";
import type { SessionCache } from "./sessionCache";
import { float32, floats } from "./tensors";
import { feedForwardViews } from "./weightViews";

/** A logit that no router gives: softmax and sigmoid give 0. */
const never = -1e30;

/** A chunk of tokens on its way through one layer's experts. */
export interface ExpertChunk {
  input: AttentionOutput;
  /** Index of the chunk's first token in the batch. */
  firstToken: number;
  /** [tokens] 1 for those of the chunk that count; absent: all count. */
  valid: Uint8Array | undefined;
  /** Whether the chunk before it was of the same leaf, and went through the same layer. */
  isInLeaf: boolean;
}

/** Runs the feed-forward half of a layer: routing decides in TypeScript, each expert runs once on its own tokens. */
export class FeedForwardRunner {
  readonly #experts: RoutedExperts;
  /** Of the leaf that is observed at the moment. */
  #leafSums: Float32Array | null = null;

  constructor(
    readonly context: LayerContext,
    readonly sessions: SessionCache,
    readonly parameters: Parameters,
    /** [numExperts] by layer, for families whose selection adds one. */
    readonly correctionBiases: ReadonlyMap<number, Float32Array>,
    readonly sampler: ExpertSampler | null = null,
  ) {
    this.#experts = new RoutedExperts(context, sessions);
  }

  /** Hidden states after a dense layer. */
  async forwardDense(
    layer: LayerDescription,
    mlp: MlpDescription,
    { residual, feedForwardInput }: AttentionOutput,
  ): Promise<Float32Array> {
    const session = await this.sessions.get(`mlp ${layer.index}`, () => denseGraph(this.context, layer, mlp));
    const feeds = { residual: this.#states(residual), feedForwardInput: this.#states(feedForwardInput) };
    return floats((await session.run({ ...feeds, ...this.#weights(layer) }))["hidden"]!);
  }

  /**
   * [rows, k] experts of each token, by the family's rule, or a sampler's.
   * @param firstToken of these rows in the batch
   * @param blocked experts that are not to be selected: their logits are overwritten, so that their weight is 0 too
   */
  select(
    layer: number,
    moe: MoeDescription,
    routerLogits: Float32Array,
    firstToken: number,
    blocked: readonly number[] = [],
  ): Int32Array {
    const ids = this.#select(layer, moe, routerLogits, blocked);
    this.sampler?.sample({ layer, moe, routerLogits, firstToken, ids });
    return ids;
  }

  #select(layer: number, moe: MoeDescription, routerLogits: Float32Array, blocked: readonly number[] = []): Int32Array {
    const rows = routerLogits.length / numLogits(moe);
    const ids = new Int32Array(rows * moe.numExpertsPerToken);
    let bias = this.correctionBiases.get(layer) ?? null;
    if (blocked.length > 0) bias &&= bias.slice();
    for (const expert of blocked) {
      for (let i = expert; i < routerLogits.length; i += numLogits(moe)) routerLogits[i] = never;
      if (bias !== null) bias[expert] = never;
    }
    selectExperts(moe.routing, routerLogits, rows, numLogits(moe), moe.numExpertsPerToken, bias, ids);
    return ids;
  }

  /** What the family's own rule would select, where the routing keeps that mass. */
  #ownIds(layer: number, moe: MoeDescription, routerLogits: Float32Array): Int32Array | undefined {
    const kept = keptMassOf(moe);
    if (kept === null || moe.routing.kind === "sparse-mixer") return undefined;
    const { numExpertsPerToken, groups } = kept;
    return this.#select(layer, { ...moe, numExpertsPerToken, routing: { ...moe.routing, groups } }, routerLogits);
  }

  /** Hidden states after an MoE layer. */
  async forwardExperts(
    layer: LayerDescription,
    moe: MoeDescription,
    { input, firstToken, valid, isInLeaf }: ExpertChunk,
    selectedIds: Int32Array,
    observer: RoutingObserver | undefined,
    collectOutputs: boolean,
  ): Promise<Float32Array> {
    const { residual, feedForwardInput } = input;
    const routerLogits = input.routerLogits!;
    const chunk = this.#chunk(layer, moe, feedForwardInput, routerLogits, selectedIds);
    const validRows = observer !== undefined && collectOutputs ? validOfRows(valid, chunk.assignment) : null;
    const before = isInLeaf ? this.#leafSums : null;
    const run = await this.#experts.forward(layer, moe, chunk, residual, validRows, before);
    const { hidden, routingWeights, observed, rows } = run;
    this.#leafSums = observed?.sums ?? null;
    const bySlot = (column: Float32Array) => slotsOf(column, chunk.assignment);
    observer?.observe({
      ...{ layer: layer.index, numTokens: selectedIds.length / moe.numExpertsPerToken },
      ...{ numRouterRows: numLogits(moe), numExperts: moe.numExperts },
      ...(moe.logicalToPhysical ? { expertOfRow: moe.logicalToPhysical } : {}),
      ...{ numExpertsPerToken: moe.numExpertsPerToken, hiddenSize: this.context.hiddenSize, firstToken },
      ...{ routerLogits, selectedIds, routingWeights, feedForwardInput },
      weightedRows: { rows, rowOfSlot: chunk.assignment.rowOfSlot },
      ...(moe.weightsInput ? { weightsInput: true as const } : {}),
      outputs:
        observed === null
          ? null
          : {
              norms: bySlot(observed.norms),
              maxima: bySlot(observed.maxima),
              absoluteMaxima: bySlot(observed.absoluteMaxima),
              sums: observed.sums,
              inputOutputCosine: observed.inputOutputCosine,
            },
    });
    return hidden;
  }

  /**
   * Adds to the parameters' gradients.
   * @param taped the chunk's inputs, and the selection that the gradient is taken for
   * @returns gradients in the block's inputs; null where not needed or not there
   */
  async backward(
    layer: LayerDescription,
    taped: {
      feedForwardInput: Float32Array;
      routerLogits: Float32Array;
      selectedIds: Int32Array;
      residual: Float32Array | undefined;
    },
    dHidden: Float32Array,
    needsInputGradient: boolean,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<InputGradients> {
    const { feedForward, index } = layer;
    const { feedForwardInput, routerLogits, selectedIds, residual } = taped;
    if (feedForward.kind === "moe") {
      const chunk = this.#chunk(layer, feedForward, feedForwardInput, routerLogits, selectedIds);
      return this.#experts.backward(layer, feedForward, { ...chunk, residual }, dHidden, needsInputGradient, gradients);
    }
    const session = await this.sessions.get(`mlp backward ${index} ${needsInputGradient}`, () =>
      denseBackwardGraph(this.context, layer, feedForward, needsInputGradient),
    );
    const outputs = await session.run({
      ...{ feedForwardInput: this.#states(feedForwardInput), dHidden: this.#states(dHidden) },
      ...this.#weights(layer),
    });
    addGradients(outputs, gradients);
    const { dFeedForwardInput } = outputs;
    return {
      dFeedForwardInput: dFeedForwardInput === undefined ? null : floats(dFeedForwardInput),
      dRouterLogits: null,
      dResidual: null,
    };
  }

  /** RoutedExperts.rowsOf with the weights of this half. */
  expertRows(layer: LayerDescription, rows: ChosenRows, rowWeights: Float32Array): Promise<Float32Array> {
    return this.#experts.rowsOf(layer, moeOf(layer), rows, this.#weights(layer), rowWeights);
  }

  /** RoutedExperts.rowGradients with the weights of this half. */
  expertRowGradients(
    layer: LayerDescription,
    rows: ChosenRows,
    dOutputs: Float32Array,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<Float32Array> {
    return this.#experts.rowGradients(layer, moeOf(layer), rows, this.#weights(layer), dOutputs, gradients);
  }

  #chunk(
    layer: LayerDescription,
    moe: MoeDescription,
    feedForwardInput: Float32Array,
    routerLogits: Float32Array,
    selectedIds: Int32Array,
  ): RoutedChunk {
    const { numExpertsPerToken: k, numExperts, logicalToPhysical } = moe;
    const assignment = assignExperts(selectedIds, selectedIds.length / k, k, numExperts, logicalToPhysical);
    const ownIds = this.#ownIds(layer.index, moe, routerLogits);
    return { feedForwardInput, routerLogits, selectedIds, ownIds, assignment, weights: this.#weights(layer) };
  }

  /** The trained weights that this half of a layer takes. */
  #weights(layer: LayerDescription): Record<string, Tensor> {
    return this.parameters.feeds(`feed-forward ${layer.index}`, () => feedForwardViews(layer));
  }

  #states(data: Float32Array): Tensor {
    const width = this.context.hiddenSize;
    return float32(data, [data.length / width, width]);
  }
}

function moeOf({ feedForward, index }: LayerDescription): MoeDescription {
  if (feedForward.kind === "moe") return feedForward;
  throw new Error(`layer ${index} has no experts`);
}

/** 1 for the rows of tokens that count, [R]. */
function validOfRows(valid: Uint8Array | undefined, { tokenOfRow }: Assignment): Float32Array {
  const rows = new Float32Array(tokenOfRow.length).fill(1);
  if (valid === undefined) return rows;
  for (let row = 0; row < rows.length; row++) rows[row] = valid[tokenOfRow[row]!]!;
  return rows;
}

/** A number of each row, [R], in the order of (token, slot). */
function slotsOf(column: Float32Array, { slotOfRow }: Assignment): Float32Array {
  const slots = new Float32Array(column.length);
  for (let row = 0; row < slots.length; row++) slots[slotOfRow[row]!] = column[row]!;
  return slots;
}
