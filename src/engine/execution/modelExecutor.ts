import { throwIfCancelled } from "../../protocol/errors";
import type { LayerDescription } from "../model/description";
import { addArrays, TreeFold } from "../tensor/treeFold";
import { AttentionRunner } from "./attentionRunner";
import { addEmbeddingGradient, embeddingGraph, embedRows } from "./embedding";
import { FeedForwardRunner } from "./feedForwardRunner";
import { sessionsInTurn } from "./expertGroups";
import { checkLayerOutput } from "./finite";
import type { ExecutorOptions } from "./executorOptions";
import { LayerForward } from "./layerForward";
import { chunksOf, leavesOf, type Leaves } from "./leaves";
import { FileHiddenStates, MemoryHiddenStates, type HiddenStates } from "./hiddenStates";
import { keepsResidual, planExecution, tapedBytesPerToken, type ExecutionPlan } from "./memoryPlan";
import { weightKey } from "../graph/blocks/weights";
import { numLogits } from "../model/moeLayers";
import { Parameters, readCorrectionBiases } from "./parameters";
import type { ChosenRows } from "./routedChunk";
import { SessionCache } from "./sessionCache";
import { LayersSideBySide, sideBySideThreads } from "./sideBySide/layersSideBySide";
import type { BackwardOptions, ForwardOptions, RouterFit, TokenBatch } from "./passOptions";
import type { LayerTape, Tape } from "./tape";
import { floats } from "./tensors";
import { trainedSizes } from "./trainedSizes";
import { attentionTrains, feedForwardViews } from "./weightViews";

/**
 * Runs a model layer by layer: all tokens of a batch go through one layer before the next is touched, so that memory
 * holds one layer's working set whatever the number of layers. Routers are graph inputs, f32, taken from `parameters`.
 */
export class ModelExecutor {
  readonly plan: ExecutionPlan;
  /** Sessions of every block of this model; the vocabulary head shares the cache and its budget. */
  readonly sessions: SessionCache;
  readonly #parameters: Parameters;
  readonly #attention: AttentionRunner;
  readonly #feedForward: FeedForwardRunner;
  readonly #trainableKeys: ReadonlySet<string>;
  readonly #leaves: Leaves;
  readonly #layers: LayerForward;
  /** Threads beside this executor; null where it is to work alone. */
  readonly sideBySide: LayersSideBySide | null;

  private constructor(
    readonly options: ExecutorOptions,
    parameters: Parameters,
    correctionBiases: ReadonlyMap<number, Float32Array>,
  ) {
    const { description, sequenceLength, runtime, direction, checkpoint } = options;
    const trained = trainedSizes(description, options.trainable ?? new Set());
    this.plan = planExecution(description, sequenceLength, runtime.memoryBudgetBytes, direction, trained);
    this.sessions = new SessionCache(runtime, this.plan, sessionsInTurn(description));
    this.#parameters = parameters;
    this.#leaves = options.leaves ?? leavesOf(sequenceLength);
    this.#trainableKeys = new Set(parameters.values.keys());
    const { hiddenSize } = description;
    const codesAreGiven = this.plan.codeBytes > 0;
    const context = {
      checkpoint,
      description,
      hiddenSize,
      sequenceLength,
      trainable: this.#trainableKeys,
      codesAreGiven,
      ...(options.unitMasks ? { unitMasks: options.unitMasks } : {}),
    };
    this.#attention = new AttentionRunner(context, this.sessions, parameters, this.plan.attentionSequences);
    const sampler = options.sampler ?? null;
    this.#feedForward = new FeedForwardRunner(context, this.sessions, parameters, correctionBiases, sampler);
    this.#layers = new LayerForward(this.#attention, this.#feedForward, this.#leaves, options.blocked);
    const threads = sideBySideThreads(options, this.#leaves);
    this.sideBySide =
      threads > 0
        ? new LayersSideBySide(options, threads, this.#leaves, this.plan.chunkSequences, parameters.values, options.way)
        : null;
  }

  static async open(options: ExecutorOptions): Promise<ModelExecutor> {
    const { checkpoint, description, trainable } = options;
    const parameters = await Parameters.read(checkpoint, description, trainable ?? []);
    return new ModelExecutor(options, parameters, await readCorrectionBiases(checkpoint, description));
  }

  /** Current values of the trainable weights by key, f32; a caller that trains replaces them. */
  get parameters(): Map<string, Float32Array> {
    return this.#parameters.values;
  }

  /** The trained weights as the vocabulary head needs them. */
  get trained(): Parameters {
    return this.#parameters;
  }

  /** Final hidden states, before the final norm, [tokens, hidden]. The caller closes them. */
  async forward(batch: TokenBatch, options: ForwardOptions = {}): Promise<HiddenStates> {
    const { layers } = this.options.description;
    const numTokens = batch.ids.length;
    const { hiddenSize } = this.options.description;
    const bytesPerToken = options.tape === undefined ? hiddenSize * 4 : tapedBytesPerToken(this.options.description);
    const hidden = this.newStates(numTokens, hiddenSize, bytesPerToken);
    if (options.tape !== undefined) options.tape.ids = batch.ids;
    try {
      const first = options.start?.layers ?? 0;
      if (options.start) this.#copy(options.start.hidden, hidden);
      else await this.#embed(batch.ids, hidden);
      for (let done = first; done < (options.end ?? layers.length); done++) {
        await this.#forwardLayer(done, batch, hidden, options);
        await options.onLayer?.(done + 1, hidden);
      }
      return hidden;
    } catch (error) {
      hidden.close();
      throw error;
    }
  }

  /**
   * Gradients of the trainable weights, given the gradient of the loss with respect to the final hidden states (which is
   * overwritten). Exact for the experts that the forward pass selected. Those of routers are made sequence by sequence and
   * added in a tree over the batch's sequences, so that aligned parts of a batch may be worked on apart (addNamed).
   *
   * @param gradients running sums that this adds to, where the head has begun them; zeros by default
   */
  async backward(
    tape: Tape,
    gradient: HiddenStates,
    options: BackwardOptions = {},
    gradients: Map<string, Float32Array> = this.#parameters.zeros(),
  ): Promise<Map<string, Float32Array>> {
    const { layers, embedding, hiddenSize } = this.options.description;
    const table = gradients.get(weightKey(embedding.weight));
    // Below the lowest layer that trains, nothing asks for a gradient.
    const lowest =
      table === undefined ? layers.findIndex((layer) => layer.feedForward.kind === "moe" || this.#trains(layer)) : 0;
    for (let i = layers.length - 1; i >= lowest && lowest >= 0; i--) {
      const needsInputGradient = i > lowest || table !== undefined;
      await this.#backwardLayer(layers[i]!, tape, gradient, needsInputGradient, gradients, options);
    }
    if (table !== undefined) {
      for (const [from, to] of this.#chunks(gradient.numTokens)) {
        const ids = tape.ids.subarray(from, to);
        addEmbeddingGradient(table, ids, gradient.read(from, to), hiddenSize, embedding.multiplier);
      }
    }
    return gradients;
  }

  /** Outputs of experts for rows that the caller chooses: RoutedExperts.rowsOf. */
  expertRows(layer: LayerDescription, rows: ChosenRows, rowWeights: Float32Array): Promise<Float32Array> {
    return this.#feedForward.expertRows(layer, rows, rowWeights);
  }

  /** Gradients of what expertRows gives with weights of one: RoutedExperts.rowGradients. */
  expertRowGradients(
    layer: LayerDescription,
    rows: ChosenRows,
    dOutputs: Float32Array,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<Float32Array> {
    return this.#feedForward.expertRowGradients(layer, rows, dOutputs, gradients);
  }

  async close(): Promise<void> {
    await this.sideBySide?.close();
    await this.sessions.close();
  }

  async #embed(ids: Int32Array, hidden: HiddenStates): Promise<void> {
    const { checkpoint, description } = this.options;
    const table = this.parameters.get(weightKey(description.embedding.weight));
    if (table !== undefined) {
      const { multiplier } = description.embedding;
      for (const [from, to] of this.#chunks(ids.length))
        hidden.write(from, embedRows(table, ids.subarray(from, to), hidden.width, multiplier));
      return;
    }
    const { keepFloat32Weights } = this.plan;
    const graph = () => embeddingGraph(checkpoint, description, keepFloat32Weights);
    const session = await this.sessions.get("embedding", graph);
    for (const [from, to] of this.#chunks(ids.length)) {
      const feeds = { ids: { type: "int32" as const, shape: [to - from], data: ids.slice(from, to) } };
      hidden.write(from, floats((await session.run(feeds))["hidden"]!));
    }
  }

  #copy(from: HiddenStates, to: HiddenStates): void {
    using source = from;
    for (const [first, end] of this.#chunks(to.numTokens)) to.write(first, source.read(first, end));
  }

  async #forwardLayer(place: number, batch: TokenBatch, hidden: HiddenStates, options: ForwardOptions) {
    const layer = this.options.description.layers[place]!;
    const { feedForward, index } = layer;
    const taped = options.tape === undefined ? null : this.#tapeLayer(options.tape, layer, hidden.numTokens);
    if (options.routerFit !== undefined && feedForward.kind === "moe")
      await this.#fitRouter(layer, hidden, options.routerFit, options.signal);
    const forward = async (first: number, end: number) => {
      for (const [from, to] of this.#chunks(end - first)) {
        throwIfCancelled(options.signal);
        const rows = { x: hidden.read(first + from, first + to), firstToken: first + from, valid: batch.valid };
        hidden.write(first + from, await this.#layers.forward(layer, rows, options, taped));
        options.onChunk?.(to - from);
      }
    };
    const isDone = await this.sideBySide?.forward(place, batch, hidden, options, forward);
    if (isDone !== true) await forward(0, hidden.numTokens);
    if (feedForward.kind === "moe") await options.observer?.afterLayer?.(index, hidden);
  }

  /** Rows of whole sequences behind a layer, which begin a leaf where outputs are collected. `valid` is theirs alone. */
  async forwardRows(
    {
      layer,
      x,
      firstToken,
      valid,
    }: { layer: number; x: Float32Array; firstToken: number; valid?: Uint8Array | undefined },
    options: ForwardOptions,
  ): Promise<Float32Array> {
    const { hiddenSize, layers } = this.options.description;
    const output = new Float32Array(x.length);
    for (const [from, to] of this.#chunks(x.length / hiddenSize)) {
      const part = x.subarray(from * hiddenSize, to * hiddenSize);
      const rows = { x: part, firstToken: firstToken + from, valid, validFrom: firstToken };
      output.set(await this.#layers.forward(layers[layer]!, rows, options, null), from * hiddenSize);
    }
    return output;
  }

  async #fitRouter(layer: LayerDescription, hidden: HiddenStates, fit: RouterFit, signal: AbortSignal | undefined) {
    for (const [from, to] of this.#chunks(hidden.numTokens)) {
      throwIfCancelled(signal);
      const { feedForwardInput, routerLogits } = await this.#attention.forward(layer, hidden.read(from, to));
      checkLayerOutput(feedForwardInput, layer.index, "attention");
      await fit.add(layer.index, from, feedForwardInput, routerLogits!);
    }
    await fit.fit(layer.index);
  }

  async #backwardLayer(
    layer: LayerDescription,
    tape: Tape,
    gradient: HiddenStates,
    needsInputGradient: boolean,
    gradients: ReadonlyMap<string, Float32Array>,
    { signal, onChunk, routerLogitGradient, layerGradient, terms }: BackwardOptions,
  ): Promise<void> {
    const { feedForward } = layer;
    const taped = tape.layers.get(layer.index)!;
    const { index } = layer;
    const added =
      taped.routerLogits !== null && routerLogitGradient !== undefined
        ? await routerLogitGradient(index, taped.routerLogits.read(0, gradient.numTokens))
        : null;
    const width = taped.routerLogits?.width ?? 0;
    const ofRouter = new TreeFold<Float32Array>(addArrays);
    for (const [from, to] of this.#chunks(gradient.numTokens)) {
      throwIfCancelled(signal);
      const dHidden = gradient.read(from, to);
      const feedForwardInput = taped.feedForwardInput.read(from, to);
      const routerLogits = taped.routerLogits?.read(from, to) ?? new Float32Array(0);
      // The same logits select the same experts again.
      const selectedIds =
        feedForward.kind === "moe"
          ? this.#feedForward.select(index, feedForward, routerLogits, from)
          : new Int32Array(0);
      await layerGradient?.({ layer, firstToken: from, dHidden, feedForwardInput, routerLogits, selectedIds });
      const residual = taped.residual?.read(from, to);
      const inputs = { feedForwardInput, routerLogits, selectedIds, residual };
      const needs = needsInputGradient || this.#trainsAttention(layer);
      const inAdded = terms?.inAdded(index, from, to) ?? null;
      const { dFeedForwardInput, dRouterLogits, dResidual } = await this.#feedForward.backward(
        layer,
        inputs,
        inAdded === null ? dHidden : dHidden.map((value, i) => value + inAdded[i]!),
        needs,
        gradients,
      );
      // What the half adds is its output less the residual stream.
      if (inAdded !== null && dResidual !== null)
        for (let i = 0; i < dResidual.length; i++) dResidual[i]! -= inAdded[i]!;
      const inInput = (await terms?.inInput(layer, from, feedForwardInput, gradients)) ?? null;
      if (inInput !== null && dFeedForwardInput !== null) addArrays(dFeedForwardInput, inInput);
      if (added !== null && dRouterLogits !== null) addArrays(dRouterLogits, added.subarray(from * width, to * width));
      const cotangents = {
        dResidual: dResidual ?? dHidden,
        dFeedForwardInput: dFeedForwardInput ?? new Float32Array(dHidden.length),
        dRouterLogits,
      };
      if (!needs && (dRouterLogits === null || routerReadsInput(layer))) {
        // Nothing below this layer's feed-forward part trains but its router, whose input is on the tape.
        if (feedForward.kind === "moe" && this.#trainableKeys.has(weightKey(feedForward.router.weight)))
          await this.#attention.routerGradient(feedForwardInput, dRouterLogits!, width, ofRouter);
        onChunk?.(to - from);
        continue;
      }
      const x = taped.x.read(from, to);
      const dx = await this.#attention.backward(layer, x, cotangents, needsInputGradient, { gradients, ofRouter });
      if (dx !== null) gradient.write(from, dx);
      onChunk?.(to - from);
    }
    const routerGradient = ofRouter.take();
    if (feedForward.kind === "moe" && routerGradient !== null)
      addArrays(gradients.get(weightKey(feedForward.router.weight))!, routerGradient);
  }

  #tapeLayer(tape: Tape, layer: LayerDescription, tokens: number): LayerTape {
    const { hiddenSize } = this.options.description;
    const together = tapedBytesPerToken(this.options.description);
    const logits = layer.feedForward.kind === "moe" ? numLogits(layer.feedForward) : 0;
    const entry = {
      x: this.newStates(tokens, hiddenSize, together),
      feedForwardInput: this.newStates(tokens, hiddenSize, together),
      residual: keepsResidual(layer) ? this.newStates(tokens, hiddenSize, together) : null,
      routerLogits: logits === 0 ? null : this.newStates(tokens, logits, together),
    };
    tape.layers.set(layer.index, entry);
    return entry;
  }

  /**
   * Rows [numTokens, width] that stay while an update works, in memory or past the budget in a file. The caller closes them.
   * @param bytesPerToken of everything that will be alive together with these, which decides whether they spill
   */
  newStates(numTokens: number, width: number, bytesPerToken: number): HiddenStates {
    return numTokens * bytesPerToken <= this.plan.hiddenStateBytes
      ? new MemoryHiddenStates(numTokens, width)
      : new FileHiddenStates(numTokens, width, this.options.scratchDirectory);
  }

  /** Whether attention or norms of this layer train, beside its router. */
  #trainsAttention(layer: LayerDescription): boolean {
    return attentionTrains(layer, this.#trainableKeys);
  }

  /** Whether anything of this layer trains, beside its router. */
  #trains(layer: LayerDescription): boolean {
    return (
      this.#trainsAttention(layer) || feedForwardViews(layer).some((view) => this.#trainableKeys.has(weightKey(view)))
    );
  }

  #chunks(tokens: number): [number, number][] {
    return chunksOf(tokens, this.plan.chunkSequences, this.#leaves);
  }
}

/** Whether a layer's router reads what its experts read, without a norm of its own. */
function routerReadsInput({ feedForward }: LayerDescription): boolean {
  return feedForward.kind === "moe" && (feedForward.router.input ?? null) === null;
}
