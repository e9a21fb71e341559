import { createContext, Script } from "node:vm";

/** Work was stopped because it took too long. */
export class TimeLimitExceeded extends Error {
  override readonly name = "TimeLimitExceeded";

  constructor(readonly limitMs: number) {
    super(`took more than ${limitMs} ms`);
  }
}

/**
 * Runs synchronous work with a time limit. Only Node's vm module can stop JavaScript that does not return, regular
 * expressions included; the work itself runs in this realm, so its results and errors are ordinary ones.
 *
 * The limit is of processor time: an attempt that got less than that before its time was up is tried again with twice the
 * time, since a busy machine, or one that slept, must not look like bad input. One that got it is tried again once.
 *
 * @throws TimeLimitExceeded, or whatever the work throws
 */
export function withTimeLimit<T>(limitMs: number, work: () => T): T {
  const limit = Math.max(1, Math.round(limitMs));
  let timeout = limit;
  for (let exceeded = 0; ;) {
    let result: T | undefined;
    const began = process.cpuUsage();
    slot.work = () => {
      result = work();
    };
    try {
      callWork.runInContext(slot, { timeout });
      return result as T;
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      const { user, system } = process.cpuUsage(began);
      if ((user + system) / 1000 < 0.9 * limit) timeout *= 2;
      else if (++exceeded === 2) throw new TimeLimitExceeded(limit);
    } finally {
      slot.work = undefined;
    }
  }
}

const slot: { work: (() => void) | undefined } = { work: undefined };
createContext(slot);
const callWork = new Script("work()");
