import { RerouteError } from "../protocol/errors";

/** Runs jobs one after another, in the order they were added. A job cancelled while it waits never starts. */
export class JobQueue {
  private readonly waiting: (() => Promise<void>)[] = [];
  private busy = false;
  private idleListeners: (() => void)[] = [];

  /** Jobs waiting or running. */
  get size(): number {
    return this.waiting.length + (this.busy ? 1 : 0);
  }

  /** @throws cancelled, as soon as `signal` aborts while the job waits; a running job watches the signal itself */
  add<T>(job: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const abandon = () => {
        this.waiting.splice(this.waiting.indexOf(start), 1);
        reject(new RerouteError("cancelled", "cancelled while waiting for other work to end"));
      };
      const start = async () => {
        signal.removeEventListener("abort", abandon);
        await job().then(resolve, reject);
      };
      this.waiting.push(start);
      if (signal.aborted) abandon();
      else signal.addEventListener("abort", abandon, { once: true });
      void this.work();
    });
  }

  /** Resolves when nothing is left to do. */
  async idle(): Promise<void> {
    if (this.size === 0) return;
    await new Promise<void>((resolve) => this.idleListeners.push(resolve));
  }

  private async work(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (let next = this.waiting.shift(); next; next = this.waiting.shift()) await next();
    this.busy = false;
    const listeners = this.idleListeners;
    this.idleListeners = [];
    for (const listener of listeners) listener();
  }
}
