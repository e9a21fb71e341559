import { throwIfCancelled } from "../../protocol/errors";
import { readFloat32 } from "../checkpoint/read";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { weightKey } from "../graph/blocks/weights";
import type { LayerDescription, ModelDescription, MoeDescription } from "../model/description";
import { selectExperts } from "../model/selection";
import type { RuntimeOptions, Tensor } from "../runtime/session";
import { assignExperts } from "./assignment";
import { embeddingGraph } from "./embedding";
import { checkLayerOutput } from "./finite";
import { FileHiddenStates, MemoryHiddenStates, type HiddenStates } from "./hiddenStates";
import {
  attentionBackwardGraph,
  attentionGraph,
  feedForwardBackwardGraph,
  feedForwardGraph,
  observedExpertsGraph,
  type LayerContext,
} from "./layerGraphs";
import { planExecution, type ExecutionPlan } from "./memoryPlan";
import type { RoutingObserver } from "./observer";
import { positionFeeds } from "./positions";
import { SessionCache } from "./sessionCache";
import { copyRows, float32, floats } from "./tensors";
import { attentionTrains, viewOfKey } from "./weightViews";

/** Sequences of token ids, one after another, all of the executor's length. */
export interface TokenBatch {
  ids: Int32Array;
  /** 1 for tokens that count, 0 for padding; absent: all count. */
  valid?: Uint8Array;
}

export interface ForwardOptions {
  observer?: RoutingObserver;
  /** Also report norms, maxima and sums of every expert's outputs. */
  collectOutputs?: boolean;
  /** Keeps what backward needs. */
  tape?: Tape;
  signal?: AbortSignal | undefined;
  /** Called after each layer of each chunk with the tokens of that chunk. */
  onChunk?: (tokens: number) => void;
}

export interface ExecutorOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequenceLength: number;
  runtime: RuntimeOptions;
  direction: "forward" | "backward";
  /** Folder for hidden states that do not fit the budget. */
  scratchDirectory: string;
  /** Weights that are fed at every run instead of read from the checkpoint, by key; routers always are. */
  trainable?: ReadonlySet<string>;
}

/** What a forward pass leaves for the backward pass: the inputs of every block. */
export class Tape {
  readonly layers = new Map<
    number,
    { x: HiddenStates; feedForwardInput: HiddenStates; selectedIds: Int32Array; routerLogits: Float32Array }
  >();

  close(): void {
    for (const { x, feedForwardInput } of this.layers.values()) {
      x.close();
      feedForwardInput.close();
    }
    this.layers.clear();
  }
}

/**
 * Runs a model layer by layer: all tokens of a batch go through one layer before the next is touched, so that memory
 * holds one layer's working set whatever the number of layers. Routers are graph inputs, f32, taken from `parameters`.
 */
export class ModelExecutor {
  readonly plan: ExecutionPlan;
  /** Current values of the trainable weights by key, f32; a caller that trains replaces their contents. */
  readonly parameters: Map<string, Float32Array>;
  readonly #sessions: SessionCache;
  readonly #context: LayerContext;
  readonly #correctionBiases: Map<number, Float32Array>;
  readonly #positions = new Map<string, Record<string, Tensor>>();

  private constructor(
    readonly options: ExecutorOptions,
    parameters: Map<string, Float32Array>,
    correctionBiases: Map<number, Float32Array>,
  ) {
    const { description, sequenceLength, runtime, direction, checkpoint } = options;
    this.plan = planExecution(description, sequenceLength, runtime.memoryBudgetBytes, direction);
    this.#sessions = new SessionCache(runtime, this.plan.keepFloat32Weights, this.plan.sessionBytes);
    this.parameters = parameters;
    this.#correctionBiases = correctionBiases;
    this.#context = { checkpoint, description, sequenceLength, trainable: new Set(parameters.keys()) };
  }

  static async open(options: ExecutorOptions): Promise<ModelExecutor> {
    const { checkpoint, description, trainable } = options;
    const parameters = new Map<string, Float32Array>();
    const correctionBiases = new Map<number, Float32Array>();
    const read = async ({ tensor, offset, shape }: { tensor: string; offset: number; shape: number[] }) =>
      readFloat32(checkpoint.tensors.get(tensor)!, { offset, count: shape.reduce((n, size) => n * size, 1) });
    for (const [layer, moe] of moeLayers(description)) {
      parameters.set(weightKey(moe.router.weight), await read(moe.router.weight));
      if (moe.router.correctionBias !== null) correctionBiases.set(layer.index, await read(moe.router.correctionBias));
    }
    for (const key of trainable ?? []) {
      if (parameters.has(key)) continue;
      const view = viewOfKey(description, key);
      parameters.set(key, await read(view));
    }
    return new ModelExecutor(options, parameters, correctionBiases);
  }

  /** Final hidden states, before the final norm, [tokens, hidden]. The caller closes them. */
  async forward(batch: TokenBatch, options: ForwardOptions = {}): Promise<HiddenStates> {
    const { description } = this.options;
    const numTokens = batch.ids.length;
    const hidden = this.#newStates(
      numTokens,
      numTokens * (options.tape === undefined ? 1 : description.layers.length * 2),
    );
    try {
      await this.#embed(batch.ids, hidden);
      for (const layer of description.layers) await this.#forwardLayer(layer, batch, hidden, options);
      return hidden;
    } catch (error) {
      hidden.close();
      throw error;
    }
  }

  /**
   * Gradients of the trainable weights, given the gradient of the loss with respect to the final hidden states (which is
   * overwritten). Exact for the experts that the forward pass selected.
   */
  async backward(
    tape: Tape,
    gradient: HiddenStates,
    options: { signal?: AbortSignal | undefined; onChunk?: (tokens: number) => void } = {},
  ) {
    const gradients = new Map([...this.parameters].map(([key, values]) => [key, new Float32Array(values.length)]));
    const { layers } = this.options.description;
    const lowest = layers.findIndex((layer) => this.#trains(layer));
    for (const layer of [...layers].reverse()) {
      if (layer.index < lowest) break;
      await this.#backwardLayer(layer, tape, gradient, layer.index > lowest, gradients, options);
    }
    return gradients;
  }

  async close(): Promise<void> {
    await this.#sessions.close();
  }

  /** Sessions for other blocks of the same model (the head) share the cache and its budget. */
  get sessions(): SessionCache {
    return this.#sessions;
  }

  async #embed(ids: Int32Array, hidden: HiddenStates): Promise<void> {
    const { checkpoint, description } = this.options;
    const session = await this.#sessions.get("embedding", () => embeddingGraph(checkpoint, description));
    for (const [from, to] of this.#chunks(ids.length)) {
      const feeds = { ids: { type: "int32" as const, shape: [to - from], data: ids.slice(from, to) } };
      hidden.write(from, floats((await session.run(feeds))["hidden"]!));
    }
  }

  async #forwardLayer(
    layer: LayerDescription,
    batch: TokenBatch,
    hidden: HiddenStates,
    options: ForwardOptions,
  ): Promise<void> {
    const { feedForward } = layer;
    const tokens = hidden.numTokens;
    const taped = options.tape === undefined ? null : this.#tapeLayer(options.tape, layer, tokens);
    for (const [from, to] of this.#chunks(tokens)) {
      throwIfCancelled(options.signal);
      const x = hidden.read(from, to);
      taped?.x.write(from, x);
      const { residual, feedForwardInput, routerLogits } = await this.#attention(layer, x);
      checkLayerOutput(residual, layer.index, "attention");
      taped?.feedForwardInput.write(from, feedForwardInput);
      const rows = to - from;
      const common = { residual: this.#rows(residual, rows), feedForwardInput: this.#rows(feedForwardInput, rows) };
      if (feedForward.kind === "mlp") {
        const session = await this.#sessions.get(`mlp ${layer.index}`, () => feedForwardGraph(this.#context, layer));
        const output = floats((await session.run({ ...common, ...this.#weightFeeds() }))["hidden"]!);
        checkLayerOutput(output, layer.index, "feed-forward part");
        hidden.write(from, output);
      } else {
        const ids = this.#select(layer.index, feedForward, routerLogits!, rows);
        taped?.selectedIds.set(ids, from * feedForward.numExpertsPerToken);
        taped?.routerLogits.set(routerLogits!, from * numLogits(feedForward));
        const output = await this.#runExperts(
          layer,
          feedForward,
          { ...common, ...this.#weightFeeds() },
          routerLogits!,
          ids,
          batch,
          from,
          options,
        );
        checkLayerOutput(output, layer.index, "feed-forward part");
        hidden.write(from, output);
      }
      options.onChunk?.(rows);
    }
    if (feedForward.kind === "moe") await options.observer?.afterLayer?.(layer.index, hidden);
  }

  async #runExperts(
    layer: LayerDescription,
    moe: MoeDescription,
    common: Record<string, Tensor>,
    routerLogits: Float32Array,
    ids: Int32Array,
    batch: TokenBatch,
    from: number,
    { observer, collectOutputs = false }: ForwardOptions,
  ): Promise<Float32Array> {
    const k = moe.numExpertsPerToken;
    const rows = ids.length / k;
    const observed = observer !== undefined && collectOutputs;
    const session = observed
      ? await this.#sessions.get(`observed ${layer.index}`, () => observedExpertsGraph(this.#context, layer, moe))
      : await this.#sessions.get(`experts ${layer.index}`, () => feedForwardGraph(this.#context, layer));
    const outputs = await session.run({
      ...common,
      routerLogits: float32(routerLogits, [rows, numLogits(moe)]),
      ...assignExperts(ids, rows, k, moe.numExperts, moe.logicalToPhysical),
      ...(observed ? { validSlots: float32(validSlots(batch.valid, from, rows, k), [rows, k]) } : {}),
    });
    observer?.observe({
      layer: layer.index,
      numTokens: rows,
      numExperts: numLogits(moe),
      numExpertsPerToken: k,
      hiddenSize: this.options.description.hiddenSize,
      firstToken: from,
      routerLogits,
      selectedIds: ids,
      routingWeights: floats(outputs["routingWeights"]!),
      feedForwardInput: floats(common["feedForwardInput"]!),
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

  async #backwardLayer(
    layer: LayerDescription,
    tape: Tape,
    gradient: HiddenStates,
    needsInputGradient: boolean,
    gradients: Map<string, Float32Array>,
    { signal, onChunk }: { signal?: AbortSignal | undefined; onChunk?: (tokens: number) => void },
  ): Promise<void> {
    const { feedForward } = layer;
    const taped = tape.layers.get(layer.index)!;
    const needs = needsInputGradient || this.#trainsBelowRouter(layer);
    for (const [from, to] of this.#chunks(gradient.numTokens)) {
      throwIfCancelled(signal);
      const rows = to - from;
      const dHidden = gradient.read(from, to);
      const feeds: Record<string, Tensor> = {
        residual: this.#rows(dHidden, rows), // Not used by any gradient; the graph drops it.
        feedForwardInput: this.#rows(taped.feedForwardInput.read(from, to), rows),
        dHidden: this.#rows(dHidden, rows),
        ...this.#weightFeeds(),
      };
      const key = `${feedForward.kind} backward ${layer.index} ${needs}`;
      const session = await this.#sessions.get(key, () => feedForwardBackwardGraph(this.#context, layer, needs));
      let dRouterLogits: Float32Array | null = null;
      if (feedForward.kind === "moe") {
        const k = feedForward.numExpertsPerToken;
        const ids = taped.selectedIds.slice(from * k, to * k);
        const logits = taped.routerLogits.subarray(from * numLogits(feedForward), to * numLogits(feedForward));
        feeds["routerLogits"] = float32(logits, [rows, numLogits(feedForward)]);
        Object.assign(feeds, assignExperts(ids, rows, k, feedForward.numExperts, feedForward.logicalToPhysical));
      }
      const outputs = await session.run(feeds);
      addGradients(outputs, gradients);
      const dFeedForwardInput = outputs["dFeedForwardInput"];
      if (feedForward.kind === "moe") dRouterLogits = floats(outputs["dRouterLogits"]!);
      const dx = await this.#attentionBackward(
        layer,
        taped.x.read(from, to),
        dHidden,
        dFeedForwardInput === undefined ? new Float32Array(dHidden.length) : floats(dFeedForwardInput),
        dRouterLogits,
        needsInputGradient,
        gradients,
      );
      if (dx !== null) gradient.write(from, dx);
      onChunk?.(rows);
    }
  }

  /** Attention of a chunk, a few sequences at a time: scores grow with the square of the length. */
  async #attention(layer: LayerDescription, x: Float32Array) {
    const { feedForward } = layer;
    const width = this.options.description.hiddenSize;
    const rows = x.length / width;
    const session = await this.#sessions.get(`attention ${layer.index}`, () => attentionGraph(this.#context, layer));
    const residual = new Float32Array(x.length);
    const feedForwardInput = new Float32Array(x.length);
    const logits = feedForward.kind === "moe" ? new Float32Array(rows * numLogits(feedForward)) : null;
    for (const [from, to] of this.#attentionChunks(rows)) {
      const outputs = await session.run({
        x: this.#rows(x.subarray(from * width, to * width), to - from),
        ...this.#positionFeeds(layer),
        ...this.#weightFeeds(),
      });
      residual.set(floats(outputs["residual"]!), from * width);
      feedForwardInput.set(floats(outputs["feedForwardInput"]!), from * width);
      logits?.set(floats(outputs["routerLogits"]!), (from * logits.length) / rows);
    }
    return { residual, feedForwardInput, routerLogits: logits };
  }

  async #attentionBackward(
    layer: LayerDescription,
    x: Float32Array,
    dResidual: Float32Array,
    dFeedForwardInput: Float32Array,
    dRouterLogits: Float32Array | null,
    needsInputGradient: boolean,
    gradients: Map<string, Float32Array>,
  ): Promise<Float32Array | null> {
    const width = this.options.description.hiddenSize;
    const rows = x.length / width;
    const session = await this.#sessions.get(`attention backward ${layer.index} ${needsInputGradient}`, () =>
      attentionBackwardGraph(this.#context, layer, needsInputGradient),
    );
    const dx = needsInputGradient ? new Float32Array(x.length) : null;
    for (const [from, to] of this.#attentionChunks(rows)) {
      const part = (all: Float32Array) => copyRows(all, rows, from, to);
      const outputs = await session.run({
        x: part(x),
        dResidual: part(dResidual),
        dFeedForwardInput: part(dFeedForwardInput),
        ...(dRouterLogits === null ? {} : { dRouterLogits: part(dRouterLogits) }),
        ...this.#positionFeeds(layer),
        ...this.#weightFeeds(),
      });
      addGradients(outputs, gradients);
      dx?.set(floats(outputs["dx"]!), from * width);
    }
    return dx;
  }

  #select(layer: number, moe: MoeDescription, routerLogits: Float32Array, rows: number): Int32Array {
    const ids = new Int32Array(rows * moe.numExpertsPerToken);
    const bias = this.#correctionBiases.get(layer) ?? null;
    selectExperts(moe.routing, routerLogits, rows, numLogits(moe), moe.numExpertsPerToken, bias, ids);
    return ids;
  }

  #tapeLayer(tape: Tape, layer: LayerDescription, tokens: number) {
    const moe = layer.feedForward.kind === "moe" ? layer.feedForward : null;
    const all = tokens * this.options.description.layers.length * 2;
    const entry = {
      x: this.#newStates(tokens, all),
      feedForwardInput: this.#newStates(tokens, all),
      selectedIds: new Int32Array(tokens * (moe?.numExpertsPerToken ?? 0)),
      routerLogits: new Float32Array(moe === null ? 0 : tokens * numLogits(moe)),
    };
    tape.layers.set(layer.index, entry);
    return entry;
  }

  /** @param tokensInAll rows of all stores that will be alive together, which decides whether this one spills */
  #newStates(numTokens: number, tokensInAll: number): HiddenStates {
    const width = this.options.description.hiddenSize;
    return tokensInAll * width * 4 <= this.plan.hiddenStateBytes
      ? new MemoryHiddenStates(numTokens, width)
      : new FileHiddenStates(numTokens, width, this.options.scratchDirectory);
  }

  #trains(layer: LayerDescription): boolean {
    return layer.feedForward.kind === "moe" || this.#trainsBelowRouter(layer);
  }

  /** Whether attention or norms of this layer train, so that their gradients are needed although nothing lies below. */
  #trainsBelowRouter(layer: LayerDescription): boolean {
    return this.#context.trainable.size > 0 && attentionTrains(layer, this.#context.trainable);
  }

  #weightFeeds(): Record<string, Tensor> {
    return Object.fromEntries(
      [...this.parameters].map(([key, data]) => [`weight:${key}`, float32(data, this.#parameterShape(key))]),
    );
  }

  #parameterShape(key: string): readonly number[] {
    let shape = this.#shapes.get(key);
    if (shape === undefined) this.#shapes.set(key, (shape = viewOfKey(this.options.description, key).shape));
    return shape;
  }
  readonly #shapes = new Map<string, readonly number[]>();

  #positionFeeds(layer: LayerDescription): Record<string, Tensor> {
    const window = layer.attention.slidingWindow;
    const key = String(window);
    let feeds = this.#positions.get(key);
    if (feeds === undefined) {
      feeds = positionFeeds(this.options.description.rotary, this.options.sequenceLength, window);
      this.#positions.set(key, feeds);
    }
    return feeds;
  }

  #rows(data: Float32Array, rows: number): Tensor {
    return float32(data, [rows, this.options.description.hiddenSize]);
  }

  #chunks(tokens: number): [number, number][] {
    return ranges(tokens, this.plan.chunkSequences * this.options.sequenceLength);
  }

  #attentionChunks(tokens: number): [number, number][] {
    return ranges(tokens, this.plan.attentionSequences * this.options.sequenceLength);
  }
}

/** Layers with a router, and their MoE block. */
export function moeLayers(description: ModelDescription): [LayerDescription, MoeDescription][] {
  return description.layers.flatMap((layer): [LayerDescription, MoeDescription][] =>
    layer.feedForward.kind === "moe" ? [[layer, layer.feedForward]] : [],
  );
}

/** Router logits a token: more than the experts that exist where a merged checkpoint keeps all router rows. */
export function numLogits(moe: MoeDescription): number {
  return moe.logicalToPhysical?.length ?? moe.numExperts;
}

function ranges(length: number, step: number): [number, number][] {
  return Array.from({ length: Math.ceil(length / step) }, (_, i) => [i * step, Math.min(length, (i + 1) * step)]);
}

function validSlots(valid: Uint8Array | undefined, from: number, rows: number, k: number): Float32Array {
  const slots = new Float32Array(rows * k).fill(1);
  if (valid !== undefined)
    for (let slot = 0; slot < slots.length; slot++) slots[slot] = valid[from + Math.floor(slot / k)]!;
  return slots;
}

function addGradients(outputs: Record<string, Tensor>, gradients: Map<string, Float32Array>): void {
  for (const [key, sum] of gradients) {
    const part = outputs[`gradient:${key}`];
    if (part === undefined) continue;
    const values = floats(part);
    for (let i = 0; i < values.length; i++) sum[i]! += values[i]!;
  }
}
