/** Seconds and memory of one model's pass, over all attempts where it was interrupted. */
export interface Measured {
  seconds: number;
  /** Largest sample of this process's memory. */
  peakMemoryBytes: number;
}

/** Runs from its making on; memory is sampled then and after every chunk of a layer. */
export class PassMeter {
  readonly #started = performance.now();
  #before = 0;
  #largest: number;

  /** @param residentBytes anonymous resident bytes of this process */
  constructor(readonly residentBytes: () => number) {
    this.#largest = residentBytes();
  }

  onChunk(): void {
    this.#largest = Math.max(this.#largest, this.residentBytes());
  }

  /** Adds what earlier attempts took. */
  restore({ seconds, peakMemoryBytes }: Measured): void {
    this.#before = seconds;
    this.#largest = Math.max(this.#largest, peakMemoryBytes);
  }

  measured(): Measured {
    return { seconds: this.#before + (performance.now() - this.#started) / 1e3, peakMemoryBytes: this.#largest };
  }
}
