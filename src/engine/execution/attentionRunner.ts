import type { LayerDescription, SoftmaxAttention } from "../model/description";
import type { Tensor } from "../runtime/session";
import type { TreeFold } from "../tensor/treeFold";
import type { LayerContext } from "./block";
import { attentionBackwardGraph, attentionGraph, routerGradientGraph } from "./layerGraphs";
import { numLogits } from "../model/moeLayers";
import { addGradients, type Parameters } from "./parameters";
import { positionFeeds } from "./positions";
import type { SessionCache } from "./sessionCache";
import { rowsTensor, floats } from "./tensors";
import { attentionViews } from "./weightViews";

export interface AttentionOutput {
  /** [rows, hidden]: hidden states after attention. */
  residual: Float32Array;
  /** [rows, hidden]: what router and experts see. */
  feedForwardInput: Float32Array;
  /** [rows, router logits]; null for a dense layer. */
  routerLogits: Float32Array | null;
}

/** Gradients of the loss in what attention gives out. */
export interface AttentionCotangents {
  dResidual: Float32Array;
  dFeedForwardInput: Float32Array;
  dRouterLogits: Float32Array | null;
}

/** Runs the attention half of a layer a few sequences at a time: scores grow with the square of the length. */
export class AttentionRunner {
  readonly #positions = new Map<string, Record<string, Tensor>>();

  constructor(
    readonly context: LayerContext,
    readonly sessions: SessionCache,
    readonly parameters: Parameters,
    readonly sequencesPerRun: number,
  ) {}

  async forward(layer: LayerDescription, x: Float32Array): Promise<AttentionOutput> {
    const { feedForward, index } = layer;
    const width = this.context.description.hiddenSize;
    const rows = x.length / width;
    const session = await this.sessions.get(`attention ${index}`, () => attentionGraph(this.context, layer));
    const residual = new Rows(rows, width);
    const feedForwardInput = new Rows(rows, width);
    const routerLogits = feedForward.kind === "moe" ? new Rows(rows, numLogits(feedForward)) : null;
    for (const [from, to] of this.#parts(rows)) {
      const outputs = await session.run({ x: rowsTensor(x, rows, from, to), ...this.#feeds(layer) });
      residual.write(from, outputs["residual"]!);
      feedForwardInput.write(from, outputs["feedForwardInput"]!);
      routerLogits?.write(from, outputs["routerLogits"]!);
    }
    return {
      residual: residual.all,
      feedForwardInput: feedForwardInput.all,
      routerLogits: routerLogits === null ? null : routerLogits.all,
    };
  }

  /**
   * Adds to the parameters' gradients, and the router's of each sequence to a tree over sequences.
   * @returns dx [rows, hidden], or null where nothing below trains
   */
  async backward(
    layer: LayerDescription,
    x: Float32Array,
    { dResidual, dFeedForwardInput, dRouterLogits }: AttentionCotangents,
    needsInputGradient: boolean,
    { gradients, ofRouter }: { gradients: ReadonlyMap<string, Float32Array>; ofRouter: TreeFold<Float32Array> },
  ): Promise<Float32Array | null> {
    const width = this.context.description.hiddenSize;
    const rows = x.length / width;
    const session = await this.sessions.get(`attention backward ${layer.index} ${needsInputGradient}`, () =>
      attentionBackwardGraph(this.context, layer, needsInputGradient),
    );
    const dx = needsInputGradient ? new Rows(rows, width) : null;
    for (const [from, to] of this.#parts(rows)) {
      const part = (all: Float32Array) => rowsTensor(all, rows, from, to);
      const outputs = await session.run({
        x: part(x),
        dResidual: part(dResidual),
        dFeedForwardInput: part(dFeedForwardInput),
        ...(dRouterLogits === null ? {} : { dRouterLogits: part(dRouterLogits) }),
        ...this.#feeds(layer),
      });
      addGradients(outputs, gradients);
      addBySequence(outputs["routerGradient"], ofRouter);
      dx?.write(from, outputs["dx"]!);
    }
    return dx === null ? null : dx.all;
  }

  /** Adds the gradient of a router alone, from what it read and the gradient of its logits [rows, logits]. */
  async routerGradient(
    routerInput: Float32Array,
    dRouterLogits: Float32Array,
    logits: number,
    ofRouter: TreeFold<Float32Array>,
  ): Promise<void> {
    const rows = dRouterLogits.length / logits;
    const session = await this.sessions.get(`router gradient ${logits}`, () =>
      routerGradientGraph(this.context, logits),
    );
    for (const [from, to] of this.#parts(rows)) {
      const part = (all: Float32Array) => rowsTensor(all, rows, from, to);
      const outputs = await session.run({ routerInput: part(routerInput), dRouterLogits: part(dRouterLogits) });
      addBySequence(outputs["routerGradient"], ofRouter);
    }
  }

  #feeds(layer: LayerDescription): Record<string, Tensor> {
    const { attention } = layer;
    const positions = "rotary" in attention ? this.#positionsOf(attention) : {};
    return { ...positions, ...this.parameters.feeds(`attention ${layer.index}`, () => attentionViews(layer)) };
  }

  #positionsOf({ rotary, slidingWindow, chunk }: SoftmaxAttention): Record<string, Tensor> {
    const key = JSON.stringify([rotary, slidingWindow, chunk]);
    let positions = this.#positions.get(key);
    if (positions === undefined) {
      positions = positionFeeds(rotary, this.context.sequenceLength, slidingWindow, chunk);
      this.#positions.set(key, positions);
    }
    return positions;
  }

  #parts(rows: number): [number, number][] {
    const step = this.sequencesPerRun * this.context.sequenceLength;
    return Array.from({ length: Math.ceil(rows / step) }, (_, i) => [i * step, Math.min(rows, (i + 1) * step)]);
  }
}

/** Adds each sequence's gradient of a router, where there is one. */
function addBySequence(perSequence: Tensor | undefined, ofRouter: TreeFold<Float32Array>): void {
  if (perSequence !== undefined) for (const gradient of matricesOf(perSequence)) ofRouter.add(gradient);
}

/** The matrices of a stack, [n, rows, columns]; views. */
function matricesOf(stack: Tensor): Float32Array[] {
  const [n = 0, rows = 0, columns = 0] = stack.shape;
  const size = rows * columns;
  return Array.from({ length: n }, (_, i) => floats(stack).subarray(i * size, (i + 1) * size));
}

/**
 * The results of all runs in one array, [rows, width]. The result of a run that has all rows is that array: every array
 * less is memory that V8 does not count towards its next collection, of which a small model's update had four.
 */
class Rows {
  #all: Float32Array | null = null;

  constructor(
    readonly rows: number,
    readonly width: number,
  ) {}

  write(from: number, part: Tensor): void {
    const values = floats(part);
    if (values.length === this.rows * this.width) {
      this.#all = values;
      return;
    }
    this.#all ??= new Float32Array(this.rows * this.width);
    this.#all.set(values, from * this.width);
  }

  get all(): Float32Array {
    return this.#all ?? new Float32Array(this.rows * this.width);
  }
}
