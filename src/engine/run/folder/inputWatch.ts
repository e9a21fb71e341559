import { isCancelled } from "../../../protocol/errors";
import type { ModelCache } from "../modelCache";

/** A look costs a few microseconds a file; an hour's work on files that are no longer those is what it saves. */
const secondsBetween = 1;

/**
 * Works on checkpoints as long as their weight files stay as they were opened. Graphs read them through mappings, which
 * notice nothing when a file is written to or replaced: without looking, a stage of hours would find out at its end, if at
 * all. It also ends work before it meets what is no longer there: mapped bytes beyond the end of a file that was cut short
 * end the whole process.
 *
 * @param work gets a signal that is aborted by `outer`, or when a file changed
 * @throws RerouteError checkpoint/changed, /not-found; what the work throws
 */
export async function whileUnchanged<T>(
  models: ModelCache,
  outer: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const watch = new InputWatch(models, outer, secondsBetween);
  try {
    const result = await work(watch.signal);
    await models.checkUnchanged();
    return result;
  } catch (error) {
    throw await watch.explain(error, outer);
  } finally {
    watch.stop();
  }
}

/** Looks at weight files now and then. */
export class InputWatch {
  /** Aborted when the work is cancelled, or when a file changed. */
  readonly signal: AbortSignal;
  readonly #changed = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(
    readonly models: ModelCache,
    outer: AbortSignal,
    readonly everySeconds: number,
  ) {
    this.signal = AbortSignal.any([outer, this.#changed.signal]);
    this.#wait();
  }

  /** No more looks. */
  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /**
   * What a failed stage failed of: files that changed explain every other failure, which may only follow from them. The
   * user's own cancelling stays what it is.
   */
  async explain(error: unknown, outer: AbortSignal): Promise<unknown> {
    if (isCancelled(error) && outer.aborted) return error;
    return (await this.#problem()) ?? error;
  }

  #wait(): void {
    this.#timer = setTimeout(() => void this.#look(), this.everySeconds * 1e3);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    // Twice: a stage may just have forgotten a checkpoint that it is about to write anew.
    const isChanged = (await this.#problem()) !== null && (await this.#problem()) !== null;
    if (this.#isStopped) return;
    if (isChanged) this.#changed.abort();
    else this.#wait();
  }

  async #problem(): Promise<unknown> {
    return this.models.checkUnchanged().then(
      () => null,
      (error: unknown) => error,
    );
  }
}
