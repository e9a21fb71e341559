import { RerouteError } from "../../../protocol/errors";

/** What a trace of another program says about its layers; each reader makes one. */
export interface TraceCounts {
  layers: TraceLayer[];
  /**
   * What a layer's number counts: "decoder" layers, as config.json does; or places along an axis ("axis"), which are
   * either decoder layers or sparse layers alone, depending on the program's version.
   */
  numbering: "decoder" | "axis";
  /** False where the trace names only experts that were used, so that the last ones may be missing. */
  hasAllExperts: boolean;
}

export interface TraceLayer {
  number: number;
  /** [experts] tokens routed to each. */
  frequency: Float64Array;
  /** Tokens seen; null where the trace holds only sums over the experts of a token. */
  tokens: number | null;
}

/** Far above any model (512 experts, 100 layers), low enough that a crafted trace ends soon: some statistics are experts x experts. */
export const maxTraceExperts = 4096;
export const maxTraceLayers = 10_000;

/** Tokens of each expert, grown as experts appear. */
export class ExpertCounter {
  #counts = new Float64Array(8);
  #size = 0;

  /** @throws RangeError for what is no expert id */
  add(expert: number, count = 1): void {
    if (!Number.isInteger(expert) || expert < 0 || expert >= maxTraceExperts) throw new RangeError(String(expert));
    if (expert >= this.#counts.length) {
      const grown = new Float64Array(Math.max(expert + 1, 2 * this.#counts.length));
      grown.set(this.#counts);
      this.#counts = grown;
    }
    this.#counts[expert]! += count;
    this.#size = Math.max(this.#size, expert + 1);
  }

  get frequency(): Float64Array {
    return this.#counts.slice(0, this.#size);
  }
}

export function invalidTrace(message: string): RerouteError {
  return new RerouteError("trace/invalid", message);
}
