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
 * A first timeout is tried again once: a machine that slept or stalled must not look like bad input.
 *
 * @throws TimeLimitExceeded, or whatever the work throws
 */
export function withTimeLimit<T>(limitMs: number, work: () => T): T {
  const timeout = Math.max(1, Math.round(limitMs));
  for (let attempt = 1; ; attempt++) {
    let result: T | undefined;
    slot.work = () => {
      result = work();
    };
    try {
      callWork.runInContext(slot, { timeout });
      return result as T;
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      if (attempt === 2) throw new TimeLimitExceeded(timeout);
    } finally {
      slot.work = undefined;
    }
  }
}

const slot: { work: (() => void) | undefined } = { work: undefined };
createContext(slot);
const callWork = new Script("work()");
