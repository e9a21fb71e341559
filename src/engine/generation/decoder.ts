import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { LayerContext } from "../execution/block";
import { embeddingGraph, embedRows } from "../execution/embedding";
import { sessionsInTurn } from "../execution/expertGroups";
import { FeedForwardRunner } from "../execution/feedForwardRunner";
import { checkLayerOutput } from "../execution/finite";
import { MemoryHiddenStates } from "../execution/hiddenStates";
import { Parameters, readCorrectionBiases } from "../execution/parameters";
import { SessionCache } from "../execution/sessionCache";
import { float32, floats } from "../execution/tensors";
import { VocabularyHead } from "../execution/vocabularyHead";
import { attentionViews, feedForwardViews } from "../execution/weightViews";
import { weightKey } from "../graph/blocks/weights";
import type { LayerDescription, ModelDescription, MoeDescription } from "../model/description";
import type { RuntimeOptions, Tensor } from "../runtime/session";
import { promptChunk, type DecodingPlan } from "./decodingPlan";
import { LayerPast } from "./layerPast";
import { StepFeeds, type StepRows } from "./stepFeeds";
import { needsFixedLength, stepGraph } from "./stepGraph";

export interface DecodingOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  runtime: RuntimeOptions;
  plan: DecodingPlan;
  /** Weights that differ from the checkpoint's, as an executor trains them; absent: the stored ones. */
  parameters?: Parameters;
}

/**
 * Decodes a batch of sequences layer by layer: all of them go through a layer together, so that its weights are read
 * once a step, whatever the number of sequences. Each layer keeps what it needs of earlier tokens.
 */
export class Decoder {
  /** Tokens of each sequence so far. */
  #lengths = new Int32Array(0);
  #past: LayerPast[] = [];
  readonly #feeds: StepFeeds;
  readonly #sessions: SessionCache;
  readonly #feedForward: FeedForwardRunner;
  readonly #head: VocabularyHead;
  readonly #context: LayerContext;
  /** Bytes that the past of a batch took at most. */
  peakPastBytes = 0;

  private constructor(
    readonly options: DecodingOptions,
    readonly parameters: Parameters,
    correctionBiases: ReadonlyMap<number, Float32Array>,
  ) {
    const { checkpoint, description, runtime, plan } = options;
    const trainable = new Set(parameters.values.keys());
    const { hiddenSize } = description;
    const { expertsPerGraph } = plan;
    const grouping = expertsPerGraph === undefined ? {} : { expertsPerGraph };
    this.#context = { checkpoint, description, hiddenSize, sequenceLength: 1, trainable, ...grouping };
    this.#sessions = new SessionCache(runtime, plan, sessionsInTurn(description, expertsPerGraph));
    this.#feedForward = new FeedForwardRunner(this.#context, this.#sessions, parameters, correctionBiases);
    const source = { checkpoint, description, trainable };
    this.#head = new VocabularyHead(source, this.#sessions, plan.headPositions, null, parameters);
    this.#feeds = new StepFeeds(plan.lengthLimit);
  }

  static async open(options: DecodingOptions): Promise<Decoder> {
    const { checkpoint, description } = options;
    const parameters = options.parameters ?? (await Parameters.read(checkpoint, description, []));
    return new Decoder(options, parameters, await readCorrectionBiases(checkpoint, description));
  }

  /** Sequences of the batch. */
  get rows(): number {
    return this.#lengths.length;
  }

  /** Forgets all sequences and begins with `rows` empty ones. */
  begin(rows: number): void {
    this.#lengths = new Int32Array(rows);
    this.#past = this.options.description.layers.map(({ attention }) => new LayerPast(attention, rows));
  }

  /**
   * Takes each sequence further by its new tokens: prompts at first, later one token each. Prompts go through a layer
   * whole before the next layer is touched.
   *
   * @param tokens of each sequence; none is longer than the one before it
   * @returns logits behind the last token of each, [rows, vocabulary]
   */
  async advance(tokens: readonly Int32Array[], signal?: AbortSignal): Promise<Float32Array> {
    const { hiddenSize, layers } = this.options.description;
    const longest = tokens[0]!.length;
    const s = promptChunk(this.options.plan, longest);
    const chunks = await this.#embed(tokens, s);
    for (const [i, layer] of layers.entries()) {
      const past = this.#past[i]!;
      for (const [c, { hidden, counts }] of chunks.entries()) {
        const lengths = this.#lengths.slice(0, counts.length).map((length) => length + c * s);
        past.reserve(Math.max(...lengths.map((length, row) => length + counts[row]!)), this.options.plan.lengthLimit);
        for (const [from, to] of this.#parts(counts.length, s, past.slots)) {
          throwIfCancelled(signal);
          const step = { lengths: lengths.slice(from, to), counts: counts.slice(from, to), s };
          const x = hidden.subarray(from * s * hiddenSize, to * s * hiddenSize);
          hidden.set(await this.#forwardLayer(layer, past, from, step, x), from * s * hiddenSize);
        }
      }
    }
    const bytes = this.#past.reduce((sum, past) => sum + past.bytes, 0);
    this.peakPastBytes = Math.max(this.peakPastBytes, bytes);
    const last = new MemoryHiddenStates(tokens.length, hiddenSize);
    for (const [row, { length }] of tokens.entries()) {
      const at = (row * s + ((length - 1) % s)) * hiddenSize;
      last.write(row, chunks[Math.floor((length - 1) / s)]!.hidden.subarray(at, at + hiddenSize));
      this.#lengths[row]! += length;
    }
    return this.#head.logits(last);
  }

  /** Drops the last sequences, and puts those of `moves` into the places of others before that. */
  keep(rows: number, moves: readonly (readonly [from: number, to: number])[]): void {
    for (const [from, to] of moves) {
      this.#lengths[to] = this.#lengths[from]!;
      for (const past of this.#past) past.move(from, to);
    }
    this.#lengths = this.#lengths.slice(0, rows);
  }

  async close(): Promise<void> {
    await this.#sessions.close();
  }

  /** Embedded tokens in chunks of s a sequence, [rows that are that long, s, hidden] each. */
  async #embed(tokens: readonly Int32Array[], s: number) {
    const { checkpoint, description } = this.options;
    const { embedding, hiddenSize } = description;
    const table = this.parameters.values.get(weightKey(embedding.weight));
    const chunks: { hidden: Float32Array; counts: Int32Array }[] = [];
    for (let first = 0; first < tokens[0]!.length; first += s) {
      const rows = tokens.filter(({ length }) => length > first);
      const ids = new Int32Array(rows.length * s);
      rows.forEach((row, i) => ids.set(row.subarray(first, first + s), i * s));
      const counts = Int32Array.from(rows, ({ length }) => Math.min(s, length - first));
      const hidden =
        table === undefined
          ? await this.#lookUp(checkpoint, ids)
          : embedRows(table, ids, hiddenSize, embedding.multiplier);
      chunks.push({ hidden, counts });
    }
    return chunks;
  }

  async #lookUp(checkpoint: Checkpoint, ids: Int32Array): Promise<Float32Array> {
    const session = await this.#sessions.get("embedding", () => embeddingGraph(checkpoint, this.options.description));
    return floats((await session.run({ ids: { type: "int32", shape: [ids.length], data: ids } }))["hidden"]!);
  }

  /** Hidden states behind a layer, [rows, s, hidden]. */
  async #forwardLayer(
    layer: LayerDescription,
    past: LayerPast,
    from: number,
    rows: StepRows,
    x: Float32Array,
  ): Promise<Float32Array> {
    const { feedForward, index, attention } = layer;
    const { hiddenSize } = this.#context;
    const { s, counts } = rows;
    const fixed = needsFixedLength(layer);
    const session = await this.#sessions.get(fixed ? `step ${index} ${s}` : `step ${index}`, () =>
      stepGraph({ ...this.#context, sequenceLength: s }, layer),
    );
    const outputs = await session.run({
      x: float32(x, [counts.length * s, hiddenSize]),
      ...this.#feeds.of(attention, past, rows),
      ...past.feeds(from, from + counts.length),
      ...this.#weights(layer),
    });
    past.append(from, rows.lengths, counts, s, outputs);
    if (feedForward.kind === "mlp") {
      const hidden = floats(outputs["hidden"]!);
      checkLayerOutput(hidden, index, "feed-forward part");
      return hidden;
    }
    checkLayerOutput(floats(outputs["residual"]!), index, "attention");
    return this.#experts(layer, feedForward, rows, outputs);
  }

  /** Tokens that only fill up a chunk go to no expert. */
  async #experts(
    layer: LayerDescription,
    moe: MoeDescription,
    { counts, s }: StepRows,
    outputs: Record<string, Tensor>,
  ): Promise<Float32Array> {
    const { hiddenSize } = this.#context;
    const kept = counts.every((count) => count === s) ? null : validRows(counts, s);
    const part = (name: string) => {
      const all = floats(outputs[name]!);
      return kept === null ? all : pickRows(all, all.length / (counts.length * s), kept);
    };
    const input = {
      residual: part("residual"),
      feedForwardInput: part("feedForwardInput"),
      routerLogits: part("routerLogits"),
    };
    const ids = this.#feedForward.select(layer.index, moe, input.routerLogits, 0);
    const chunk = { input, firstToken: 0, valid: undefined, isInLeaf: false };
    const hidden = await this.#feedForward.forwardExperts(layer, moe, chunk, ids, undefined, false);
    checkLayerOutput(hidden, layer.index, "feed-forward part");
    if (kept === null) return hidden;
    const all = new Float32Array(counts.length * s * hiddenSize);
    kept.forEach((row, i) => all.set(hidden.subarray(i * hiddenSize, (i + 1) * hiddenSize), row * hiddenSize));
    return all;
  }

  #weights(layer: LayerDescription): Record<string, Tensor> {
    const { index, feedForward } = layer;
    return {
      ...this.parameters.feeds(`attention ${index}`, () => attentionViews(layer)),
      ...(feedForward.kind === "mlp"
        ? this.parameters.feeds(`feed-forward ${index}`, () => feedForwardViews(layer))
        : {}),
    };
  }

  #parts(rows: number, s: number, slots: number): [number, number][] {
    const step = Math.max(
      1,
      Math.floor(this.options.plan.runBytes / this.options.plan.runBytesPerSequence(s, s + slots)),
    );
    return Array.from({ length: Math.ceil(rows / step) }, (_, i) => [i * step, Math.min(rows, (i + 1) * step)]);
  }
}

/** @throws RerouteError data/token-out-of-range */
export function checkTokenIds(ids: Int32Array, vocabSize: number, where: string): void {
  const wrong = ids.find((id) => id < 0 || id >= vocabSize);
  if (wrong === undefined) return;
  throw new RerouteError(
    "data/token-out-of-range",
    `${where} holds token id ${wrong}, but the model's vocabulary has ${vocabSize} entries. Does tokenizer.json belong to this checkpoint?`,
  );
}

function validRows(counts: Int32Array, s: number): number[] {
  return Array.from(counts).flatMap((count, row) => Array.from({ length: count }, (_, i) => row * s + i));
}

function pickRows(all: Float32Array, width: number, rows: readonly number[]): Float32Array {
  const picked = new Float32Array(rows.length * width);
  rows.forEach((row, i) => picked.set(all.subarray(row * width, (row + 1) * width), i * width));
  return picked;
}
