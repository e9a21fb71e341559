/** One executor with all threads, or several executors with one thread each, side by side. */
export type Way = "one" | "several";

/** Pieces of work after which the other way is tried again. */
const period = 32;
/** Timings that a way is judged by, the latest ones. */
const remembered = 3;

/**
 * Chooses the way that is faster now, by the work itself: both give the same bytes. A way whose latest timings got worse than
 * the other's loses its place at the next piece of work, so that it does not stay chosen on a machine that has become busy.
 */
export class FasterWay {
  readonly #timings: Record<Way, number[]> = { one: [], several: [] };
  #pieces = 0;
  readonly #compiled = new Set<string>();

  /** @param isReady whether several executors are open */
  next(isReady: boolean): Way {
    if (!isReady) return "one";
    const { one, several } = this.#timings;
    if (one.length < 2) return "one";
    if (several.length < 2) return "several";
    const better: Way = median(several) < median(one) ? "several" : "one";
    return this.#pieces % period === 0 ? other(better) : better;
  }

  /**
   * @param seconds of the work, for each of its tokens
   * @param sessions names the sessions that the work needed: the first piece of several executors compiled them
   */
  note(way: Way, seconds: number, sessions = ""): void {
    this.#pieces++;
    if (way === "several" && !this.#compiled.has(sessions)) {
      this.#compiled.add(sessions);
      return;
    }
    const timings = this.#timings[way];
    timings.push(seconds);
    if (timings.length > remembered) timings.shift();
  }
}

function other(way: Way): Way {
  return way === "one" ? "several" : "one";
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
