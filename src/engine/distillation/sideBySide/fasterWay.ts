/** One executor with all threads, or several executors with one thread each, side by side. */
export type Way = "one" | "several";

/** Updates after which the other way is tried again. */
const period = 32;
/** Timings that a way is judged by, the latest ones. */
const remembered = 3;

/**
 * Chooses the way that is faster now, by the updates themselves: both give the same bytes. A way whose latest timings got worse than
 * the other's loses its place at the next update, so that it does not stay chosen on a machine that has become busy.
 */
export class FasterWay {
  readonly #timings: Record<Way, number[]> = { one: [], several: [] };
  #updates = 0;
  #isCompiled = false;

  /** @param isReady whether several executors are open */
  next(isReady: boolean): Way {
    if (!isReady) return "one";
    const { one, several } = this.#timings;
    if (one.length < 2) return "one";
    if (several.length < 2) return "several";
    const better: Way = median(several) < median(one) ? "several" : "one";
    return this.#updates % period === 0 ? other(better) : better;
  }

  /** @param seconds of an update, for each of its tokens */
  note(way: Way, seconds: number): void {
    this.#updates++;
    if (way === "several" && !this.#isCompiled) {
      // Sessions are compiled with the first update.
      this.#isCompiled = true;
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
