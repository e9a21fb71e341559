import { throwIfCancelled } from "../../protocol/errors";
import type { FinishReason, GenerationEvent, GenerationMetrics, GenerationResponse } from "../../protocol/generation";
import type { TokenDecoder as TextDecoder } from "../data/tokenizer";
import { keyedRandom } from "../tensor/random";
import type { Decoder } from "./decoder";
import { ResponseText } from "./responseText";
import { nextToken, type SamplingSettings } from "./sampling";

export interface TokenPrompt {
  /** Names the prompt in results, and its random numbers. */
  number: number;
  ids: Int32Array;
}

export interface GenerationSettings extends SamplingSettings {
  maxNewTokens: number;
  /** Until then no end token comes. */
  minNewTokens: number;
  /** End tokens: a response stops before one. */
  endIds: readonly number[];
  /** Keeps an end token as the last of a response's ids. */
  keepsEndToken?: true;
  /** A response ends before the first of them. */
  stop: readonly string[];
  seed: number;
  /** Responses to each prompt. */
  samples: number;
}

export interface GenerationRequest {
  decoder: Decoder;
  prompts: readonly TokenPrompt[];
  settings: GenerationSettings;
  /** Tokens that prompt and response may have together. */
  contextLength: number;
  /** Absent: responses have ids only, and no stop strings. */
  text?: TextDecoder;
  onEvent?: (event: GenerationEvent) => void;
  signal?: AbortSignal | undefined;
}

/** A response on its way. */
interface Sequence {
  prompt: TokenPrompt;
  sample: number;
  ids: number[];
  text: ResponseText | null;
  finish: FinishReason | null;
}

/**
 * Responses to prompts, in their order. As many sequences as the decoder's plan allows advance together, longest prompts
 * first. A token depends on its prompt, the settings and (seed, prompt number, sample number, position) alone.
 *
 * @throws RerouteError `cancelled`, and those of Decoder.advance
 */
export async function generate(
  request: GenerationRequest,
): Promise<{ responses: GenerationResponse[]; metrics: GenerationMetrics }> {
  const { decoder, prompts, settings, text } = request;
  const sequences = prompts.flatMap((prompt) =>
    Array.from({ length: settings.samples }, (_, sample): Sequence => ({
      prompt,
      sample,
      ids: [],
      text: text ? new ResponseText(text, prompt.ids, settings.stop) : null,
      finish: null,
    })),
  );
  const meter = new Meter();
  const waiting = [...sequences].sort((a, b) => b.prompt.ids.length - a.prompt.ids.length);
  while (waiting.length > 0) await decodeBatch(request, waiting.splice(0, decoder.options.plan.rows), meter);
  const responses = sequences.map(({ prompt, sample, ids, text: said, finish }) => ({
    ...{ prompt: prompt.number, sample, ids, promptTokens: prompt.ids.length },
    ...{ text: said?.text ?? null, finish: finish! },
  }));
  return { responses, metrics: meter.metrics(sequences, decoder) };
}

async function decodeBatch(request: GenerationRequest, batch: Sequence[], meter: Meter): Promise<void> {
  const { decoder, settings, signal } = request;
  const { vocabSize } = decoder.options.description;
  let live = batch;
  decoder.begin(live.length);
  for (let step = 0; live.length > 0; step++) {
    throwIfCancelled(signal);
    const tokens = live.map(({ prompt, ids }) => (step === 0 ? prompt.ids : Int32Array.of(ids.at(-1)!)));
    const logits = await meter.time(step === 0 ? "prefill" : "decode", tokens, () => decoder.advance(tokens, signal));
    for (const [row, sequence] of live.entries()) {
      const banned = sequence.ids.length < settings.minNewTokens ? settings.endIds : [];
      const uniform = keyedRandom(
        settings.seed,
        sequence.prompt.number,
        sequence.sample,
        sequence.ids.length,
      ).uniform();
      const seen = settings.repetitionPenalty === 1 ? [] : [...sequence.prompt.ids, ...sequence.ids];
      const own = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
      take(request, sequence, nextToken(own, settings, seen, banned, uniform));
    }
    meter.sampled();
    live = withoutFinished(decoder, live);
  }
}

/** Adds a token to a response, and says so. */
function take({ settings, contextLength, onEvent }: GenerationRequest, sequence: Sequence, id: number): void {
  const { prompt, sample, ids, text } = sequence;
  const place = { prompt: prompt.number, sample };
  let added = "";
  if (settings.endIds.includes(id)) {
    sequence.finish = "end-token";
    if (settings.keepsEndToken) ids.push(id);
  } else {
    ids.push(id);
    added = text?.push(id) ?? "";
    if (text?.stopped) sequence.finish = "stop-string";
    else if (ids.length >= settings.maxNewTokens) sequence.finish = "max-new-tokens";
    else if (prompt.ids.length + ids.length >= contextLength) sequence.finish = "context";
  }
  if (sequence.finish !== null) added += text?.end() ?? "";
  if (sequence.finish !== "end-token" || added !== "") {
    onEvent?.({ kind: "token", ...place, id: sequence.finish === "end-token" ? null : id, text: added });
  }
  if (sequence.finish !== null) onEvent?.({ kind: "finished", ...place, finish: sequence.finish });
}

/** Puts the last live sequences into the places of finished ones. */
function withoutFinished(decoder: Decoder, live: Sequence[]): Sequence[] {
  const count = live.filter(({ finish }) => finish === null).length;
  if (count === live.length) return live;
  const kept = live.slice(0, count);
  const behind = live.flatMap((sequence, row) => (row >= count && sequence.finish === null ? [row] : []));
  const moves = kept.flatMap((sequence, row) => (sequence.finish === null ? [] : [[behind.shift()!, row] as const]));
  for (const [from, to] of moves) kept[to] = live[from]!;
  decoder.keep(count, moves);
  return kept;
}

/** Wall time and tokens of the two parts of generation. */
class Meter {
  readonly #seconds = { prefill: 0, decode: 0 };
  readonly #tokens = { prefill: 0, decode: 0 };
  readonly #started = performance.now();
  #firstToken: number | null = null;
  #steps = 0;

  async time<T>(part: "prefill" | "decode", tokens: readonly Int32Array[], work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.#seconds[part] += (performance.now() - started) / 1e3;
    this.#tokens[part] += tokens.reduce((sum, { length }) => sum + length, 0);
    if (part === "decode") this.#steps++;
    return result;
  }

  sampled(): void {
    this.#firstToken ??= (performance.now() - this.#started) / 1e3;
  }

  metrics(sequences: readonly Sequence[], decoder: Decoder): GenerationMetrics {
    const seconds = (performance.now() - this.#started) / 1e3;
    const newTokens = sequences.reduce((sum, { ids }) => sum + ids.length, 0);
    const rate = (tokens: number, time: number) => (time > 0 ? tokens / time : 0);
    return {
      sequences: sequences.length,
      batchRows: Math.min(decoder.options.plan.rows, sequences.length),
      promptTokens: this.#tokens.prefill,
      prefillTokensPerSecond: rate(this.#tokens.prefill, this.#seconds.prefill),
      secondsToFirstToken: this.#firstToken ?? 0,
      newTokens,
      steps: this.#steps,
      decodeTokensPerSecond: rate(this.#tokens.decode, this.#seconds.decode),
      stepsPerSecond: rate(this.#steps, this.#seconds.decode),
      seconds,
      cacheBytes: decoder.peakPastBytes,
      meanNewTokens: rate(newTokens, sequences.length),
      endTokenShare: rate(sequences.filter(({ finish }) => finish === "end-token").length, sequences.length),
    };
  }
}
