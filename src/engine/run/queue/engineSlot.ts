import { fork, type ChildProcess } from "node:child_process";
import { RerouteError, type ErrorCode } from "../../../protocol/errors";
import type { Numerics } from "../../execution/numerics";
import type { RuntimeOptions } from "../../runtime/session";
import type { Tile, TileResult } from "../tiles/tile";
import type { PathMapping } from "./pathMap";
import type { FromEngine, ToEngine } from "./tileEngine";

export interface EngineSlotOptions {
  name: string;
  runtime: RuntimeOptions;
  maps: PathMapping[];
  /** Program and arguments that serve tiles (tileEngine.ts). */
  engine: { script: string; args: string[] };
}

/** The process that computes for a worker, one tile at a time; started anew where it died. */
export class EngineSlot {
  #child: ChildProcess | null = null;
  #ready: Promise<Numerics> | null = null;
  #isStopped = false;
  #answer: ((message: FromEngine | Error) => void) | null = null;

  constructor(readonly options: EngineSlotOptions) {}

  /** @throws RerouteError engine/closed, and why it cannot compute */
  async numerics(): Promise<Numerics> {
    this.#ready ??= this.#start();
    this.#ready.catch(() => (this.#ready = null));
    return this.#ready;
  }

  /** @throws RerouteError engine/closed where it died meanwhile, and what the tile raised */
  async run(tile: Tile): Promise<TileResult> {
    await this.numerics();
    const message = await this.#ask({ kind: "tile", tile });
    if (message.kind === "done") return message.result;
    throw new RerouteError("internal", `the engine answered ${message.kind}`);
  }

  stop(): void {
    this.#isStopped = true;
    this.#child?.kill("SIGKILL");
  }

  async #start(): Promise<Numerics> {
    const { engine, name, runtime, maps } = this.options;
    const child = fork(engine.script, engine.args, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#child = child;
    child.on("message", (message) => this.#answer?.(message as FromEngine));
    child.on("error", (error) => this.#answer?.(error));
    child.on("exit", (code, signal) => {
      this.#ready = null;
      this.#child = null;
      this.#answer?.(new RerouteError("engine/closed", `the engine process ended (${signal ?? `exit code ${code}`})`));
    });
    const message = await this.#ask({ kind: "start", worker: name, runtime, maps });
    if (message.kind === "ready") return message.numerics;
    throw new RerouteError("internal", `the engine answered ${message.kind}`);
  }

  async #ask(message: ToEngine): Promise<Exclude<FromEngine, { kind: "failed" }>> {
    if (this.#isStopped) throw new RerouteError("cancelled", "the worker was told to stop");
    const answer = await new Promise<FromEngine | Error>((resolve) => {
      this.#answer = resolve;
      if (this.#child === null) resolve(new RerouteError("engine/closed", "the engine process ended"));
      else this.#child.send(message, (error) => error && resolve(error));
    });
    this.#answer = null;
    if (answer instanceof Error) throw answer;
    if (answer.kind === "failed") throw new RerouteError(answer.code as ErrorCode, answer.message);
    return answer;
  }
}
