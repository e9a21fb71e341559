import { Worker } from "node:worker_threads";
import { role, type ThreadData, type ThreadReply } from "./partThread";

let program: string | null = null;
let forwardToo = true;

/** The file that threads run: this program's own, which begins with isPartThread. Without it there are none. */
export function setThreadProgram(file: string, forward = true): void {
  program = file;
  forwardToo = forward;
}

/** Whether threads also work on parts of a layer, beside parts of a batch of Router KD. */
export function canHaveForwardThreads(): boolean {
  return program !== null && forwardToo;
}

export function canHaveThreads(): boolean {
  return program !== null;
}

/** Threads that work on parts of something at the same time, one part after another each. */
export class PartThreads<Data, Request, Reply> {
  readonly #workers: Worker[];
  /** The last part that each thread was given. */
  readonly #last: Promise<unknown>[];
  #ready = 0;
  /** Whether a thread ended or failed: the others are then of no use. */
  #failed = false;

  /** @param work a name in the program's table (servePartThread) */
  constructor(count: number, work: string, data: Data) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(program!, { workerData: { role, work, data } satisfies ThreadData });
      worker.once("message", () => this.#ready++);
      worker.on("error", () => (this.#failed = true));
      worker.on("exit", () => (this.#failed = true));
      // A thread that has nothing to do keeps no process from ending.
      worker.unref();
      return worker;
    });
    this.#last = this.#workers.map(() => Promise.resolve());
  }

  get isReady(): boolean {
    return !this.#failed && this.#ready === this.#workers.length;
  }

  get count(): number {
    return this.#workers.length;
  }

  /**
   * Has a thread work on a part, behind those that it was given before.
   * @returns null where it failed: no thread is used again
   */
  async ask(thread: number, part: Request): Promise<Reply | null> {
    const reply = this.#last[thread]!.then(() => {
      if (this.#failed) throw new Error("a thread failed");
      return ask(this.#workers[thread]!, part);
    });
    this.#last[thread] = reply.catch(() => undefined);
    try {
      return (await reply) as Reply;
    } catch {
      this.#failed = true;
      return null;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

function ask(worker: Worker, part: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const done = (settle: () => void) => {
      worker.off("message", answered);
      worker.off("exit", ended);
      worker.unref();
      settle();
    };
    const answered = (reply: ThreadReply) =>
      done(() => (reply.kind === "done" ? resolve(reply.result) : reject(new Error(reply.kind))));
    const ended = () => done(() => reject(new Error("the thread ended")));
    worker.once("message", answered);
    worker.once("exit", ended);
    worker.ref();
    worker.postMessage(part);
  });
}
