import { Worker } from "node:worker_threads";
import { TreeFold, addNamed } from "../../tensor/treeFold";
import { role, type PartReply, type PartRequest, type UpdateThreadData } from "./updateThread";

/** A part of a batch, or the whole. */
export interface LossOfPart {
  loss: number;
  gradients: Map<string, Float32Array>;
}

let program: string | null = null;

/** The file that threads run: this program's own, which begins with isUpdateThread. Without it there are none. */
export function setThreadProgram(file: string): void {
  program = file;
}

export function canHaveThreads(): boolean {
  return program !== null;
}

/** Threads that work on parts of a batch at the same time. */
export class UpdateThreads {
  readonly #workers: Worker[];
  #ready = 0;
  /** Whether a thread ended or failed: the others are then of no use. */
  #failed = false;

  constructor(count: number, data: Omit<UpdateThreadData, "role">) {
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(program!, { workerData: { ...data, role } satisfies UpdateThreadData });
      worker.once("message", () => this.#ready++);
      worker.on("error", () => (this.#failed = true));
      worker.on("exit", () => (this.#failed = true));
      return worker;
    });
  }

  get isReady(): boolean {
    return !this.#failed && this.#ready === this.#workers.length;
  }

  /**
   * The parts' sum, added in the tree over their sequences (tensor/treeFold.ts).
   * @param parts as partsOf cuts them, at most one for each thread
   * @returns null where a thread failed: none is used again
   */
  async sum(parts: readonly PartRequest[]): Promise<LossOfPart | null> {
    try {
      const replies = await Promise.all(parts.map((part, i) => ask(this.#workers[i]!, part)));
      const tree = new TreeFold<LossOfPart>((left, right) => ({
        loss: left.loss + right.loss,
        gradients: addNamed(left.gradients, right.gradients),
      }));
      replies.forEach((reply, i) => tree.add(reply, parts[i]!.sequences.numSequences));
      return tree.take();
    } catch {
      this.#failed = true;
      return null;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** Where [0, count) is cut for up to `most` parts that are nodes of the tree over its leaves: [from, to) each. */
export function partsOf(count: number, most: number): [number, number][] {
  let size = 1;
  while (Math.ceil(count / size) > most) size *= 2;
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min(count, (i + 1) * size)]);
}

function ask(worker: Worker, part: PartRequest): Promise<LossOfPart> {
  return new Promise((resolve, reject) => {
    const done = (settle: () => void) => {
      worker.off("message", answered);
      worker.off("exit", ended);
      settle();
    };
    const answered = (reply: PartReply) =>
      done(() => (reply.kind === "done" ? resolve(reply) : reject(new Error("failed" in reply ? "" : reply.kind))));
    const ended = () => done(() => reject(new Error("the thread ended")));
    worker.once("message", answered);
    worker.once("exit", ended);
    worker.postMessage(part);
  });
}
