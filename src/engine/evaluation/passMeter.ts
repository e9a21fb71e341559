import { graphSeconds } from "../runtime/session";

/** One chunk of sequences and the time that graphs took for it, through all layers so far. */
interface ChunkTime {
  tokens: number;
  seconds: number;
}

/** Graph time and memory of one model's pass, over all attempts where it was interrupted. */
export interface Measured {
  chunks: ChunkTime[];
  /** Largest sample of this process's memory. */
  peakMemoryBytes: number;
}

/**
 * Meters what every model does alike: the graphs of its layers, chunk by chunk. Observers, vocabulary heads, compiling and what is
 * written to disk are left out. Memory is sampled at the start and after every chunk of a layer.
 */
export class PassMeter {
  readonly #chunks: ChunkTime[] = [];
  #next = 0;
  #tokens = 0;
  #graphSeconds = graphSeconds();
  #largest: number;

  /**
   * @param residentBytes anonymous resident bytes of this process
   * @param numTokens of the whole pass
   */
  constructor(
    readonly residentBytes: () => number,
    readonly numTokens: number,
  ) {
    this.#largest = residentBytes();
  }

  /** After a chunk of a layer; chunks of every layer are the same. */
  onChunk(tokens: number): void {
    const now = graphSeconds();
    const chunk = (this.#chunks[this.#next++] ??= { tokens, seconds: 0 });
    chunk.seconds += now - this.#graphSeconds;
    this.#graphSeconds = now;
    this.#tokens += tokens;
    if (this.#tokens >= this.numTokens) this.#next = this.#tokens = 0;
    this.#largest = Math.max(this.#largest, this.residentBytes());
  }

  /** Adds what earlier attempts took. */
  restore({ chunks, peakMemoryBytes }: Measured): void {
    for (const [i, { tokens, seconds }] of chunks.entries())
      (this.#chunks[i] ??= { tokens, seconds: 0 }).seconds += seconds;
    this.#largest = Math.max(this.#largest, peakMemoryBytes);
  }

  measured(): Measured {
    return { chunks: this.#chunks.map((chunk) => ({ ...chunk })), peakMemoryBytes: this.#largest };
  }
}

/** Median and quartiles over chunks of the tokens that graphs take a second; the first chunk of a layer may read its weights. */
export function speedOf(chunks: readonly ChunkTime[]): {
  tokensPerSecond: number | null;
  tokensPerSecondQuartiles: [number, number] | null;
} {
  const rates = chunks.map(({ tokens, seconds }) => tokens / seconds).sort((a, b) => a - b);
  return {
    tokensPerSecond: rates.length === 0 ? null : quantile(rates, 0.5),
    tokensPerSecondQuartiles: rates.length < 3 ? null : [quantile(rates, 0.25), quantile(rates, 0.75)],
  };
}

/** Of ascending numbers, linear between the two nearest. */
export function quantile(sorted: readonly number[], share: number): number {
  const at = (sorted.length - 1) * share;
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}
