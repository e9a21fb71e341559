import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import path from "node:path";
import { createInterface, type Interface } from "node:readline";

/** Work of one side: wall and processor seconds, and a number that both sides must find. */
export interface Timed {
  seconds: number;
  cpu: number;
  value: number;
}

/** A batch as both sides read it: sequences of a file of int32 ids. */
export interface PeerBatch {
  ids: string;
  length: number;
  start: number;
  count: number;
}

export type PeerCommand =
  | { do: "open"; threads: number; experts: string; teacher: string; student?: string }
  | ({ do: "kd" | "profile" | "evaluate"; at_once: number } & PeerBatch)
  | ({ do: "forward" | "gradients" } & PeerBatch)
  | { do: "gemm"; repeats: number };

/** A Python process with PyTorch and transformers (peer.py) that answers one command after another. */
export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: Interface;
  #errors = "";

  /** @param python a Python that has torch, transformers and numpy */
  constructor(python: string) {
    this.#child = spawn(python, [path.resolve("test/bench/peers/peer.py")]);
    this.#child.stderr.on("data", (part: Buffer) => (this.#errors = (this.#errors + part.toString()).slice(-2000)));
    this.#child.stdin.on("error", () => undefined);
    this.#lines = createInterface(this.#child.stdout);
  }

  /** @throws Error with what Python said where it ended instead of answering */
  ask(command: PeerCommand): Promise<Timed> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`${command.do}: Python ended without an answer: ${this.#errors}`));
      this.#child.once("error", reject);
      this.#lines.once("close", ended);
      this.#lines.once("line", (line) => {
        this.#child.off("error", reject);
        this.#lines.off("close", ended);
        resolve(JSON.parse(line) as Timed);
      });
      this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    });
  }

  close(): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}
