import { Worker } from "node:worker_threads";
import { role, type ThreadData, type ThreadReply } from "./partThread";

let program: string | null = null;

/** The file that threads run: this program's own, which begins with isPartThread. Without it there are none. */
export function setThreadProgram(file: string): void {
  program = file;
}

export function canHaveThreads(): boolean {
  return program !== null;
}

/** A thread's part of the budget, which is for all of them and for what goes on beside. */
export function budgetOfThread(threads: number, memoryBudgetBytes: number): number {
  return memoryBudgetBytes / (threads + 2);
}

/** Threads of this process that have not ended. */
let living = 0;

/**
 * Ends this process at once. Where there are threads, by a signal, which a shell calls 130 after SIGINT: process.exit ends them amid a
 * call of onnxruntime, which aborts with a core file.
 */
export function exitAtOnce(code: number, signal: NodeJS.Signals): void {
  if (living === 0) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

/** Threads that work on parts of something at the same time, one part after another each. */
export class PartThreads<Data, Request, Reply> {
  readonly #workers: Worker[];
  /** The last part that each thread was given. */
  readonly #last: Promise<unknown>[];
  /** Of each thread: it has opened what it needs, or ended. */
  readonly #opened: Promise<unknown>[];
  #ready = 0;
  /** Whether a thread ended or failed: the others are then of no use. */
  #failed = false;

  /** @param work a name in the program's table (servePartThread) */
  constructor(count: number, work: string, data: Data) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(program!, { workerData: { role, work, data } satisfies ThreadData });
      worker.on("error", () => (this.#failed = true));
      living++;
      worker.on("exit", () => {
        living--;
        this.#failed = true;
      });
      // A thread that has nothing to do keeps no process from ending.
      worker.unref();
      return worker;
    });
    this.#opened = this.#workers.map(async (worker) => {
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      await Promise.race([new Promise((resolve) => worker.once("message", resolve)).then(() => this.#ready++), ended]);
    });
    this.#last = [...this.#opened];
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

  /**
   * Ends the threads, each behind the part that it is in: to end one amid a call of onnxruntime ends the whole process.
   * Parts that have not begun are given up.
   */
  async close(): Promise<void> {
    this.#failed = true;
    await Promise.all(
      this.#workers.map(async (worker, i) => {
        worker.ref();
        await this.#last[i];
        await worker.terminate();
      }),
    );
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
