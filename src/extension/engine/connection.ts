import { fork, type ChildProcess } from "node:child_process";
import {
  CancellationTokenSource,
  createMessageConnection,
  IPCMessageReader,
  IPCMessageWriter,
  ResponseError,
  type MessageConnection,
} from "vscode-jsonrpc/node";
import {
  protocolVersion,
  type EngineEvents,
  type EngineInfo,
  type EngineMethod,
  type EngineParams,
  type EngineResult,
  type Workload,
} from "../../protocol/engine";
import { RerouteError } from "../../protocol/errors";
import { fromWireError } from "../../protocol/rpc";
import { endReason, engineEnvironment, StderrTail } from "./childProcess";

/** Every event, by the compiler. */
const eventNames = Object.keys({
  "run/progress": true,
  "run/metrics": true,
  "run/stageChanged": true,
  "comparison/cell": true,
  "comparison/changed": true,
  "export/progress": true,
  "generation/event": true,
  "generation/scored": true,
  log: true,
} satisfies Record<keyof EngineEvents, true>) as (keyof EngineEvents)[];

/** One event with its name, so that a listener can switch on it. */
export type EngineEvent = { [E in keyof EngineEvents]: { name: E; body: EngineEvents[E] } }[keyof EngineEvents];

export interface EngineStart {
  /** The bundled engine program. */
  script: string;
  /** Folder with another onnxruntime-node; null: the extension's own. Read when a process starts. */
  onnxruntimePath?: () => string | null;
  /** What the process is for. */
  workload: Workload;
  /** Milliseconds that a new process gets to answer; then it is killed. */
  handshakeMs: number;
  /** Named in the handshake, e.g. "vscode 1.100.0". */
  host: string;
  onEvent: (event: EngineEvent) => void;
  /** A line that the engine or a native library printed. */
  onOutput: (line: string) => void;
  /** Called once, whether the end was asked for or not. */
  onClose: (error: RerouteError, asked: boolean) => void;
}

/** Milliseconds that an engine gets to end by itself once its channel is closed; then it is killed. */
const stopGraceMs = 3000;

/** One running engine process and the typed connection to it. */
export class EngineConnection {
  private closed: RerouteError | null = null;
  private asked = false;
  private readonly stderr = new StderrTail();

  private constructor(
    private readonly child: ChildProcess,
    private readonly connection: MessageConnection,
    private readonly options: EngineStart,
  ) {
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      this.stderr.add(chunk);
      options.onOutput(chunk.trimEnd());
    });
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => options.onOutput(chunk.trimEnd()));
    child.on("error", (error) => this.close(`it could not be started: ${error.message}`));
    // "close" follows "exit" once stderr is read, so the reason is complete.
    child.on("close", (code, signal) => this.close(endReason(code, signal)));
    for (const name of eventNames) {
      connection.onNotification(name, (body: unknown) => options.onEvent({ name, body } as EngineEvent));
    }
    connection.onError(([error]) => options.onOutput(`connection: ${error.message}`));
    connection.listen();
  }

  /**
   * Forks the engine and shakes hands.
   * @throws engine/version for another protocol, engine/closed when the process ends before it answers or does not answer
   */
  static async start(options: EngineStart): Promise<{ engine: EngineConnection; info: EngineInfo }> {
    // The argument is for people who look at a list of processes.
    const child = fork(options.script, [options.workload], {
      env: engineEnvironment(process.env, options.onnxruntimePath?.() ?? null),
      // Never inherit --inspect flags of the extension host.
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      // Its own process group: a run may be allowed to outlive the window. Windows needs no group for that.
      detached: process.platform !== "win32",
    });
    const connection = createMessageConnection(new IPCMessageReader(child), new IPCMessageWriter(child));
    const engine = new EngineConnection(child, connection, options);
    const limit = setTimeout(() => engine.giveUp(options.handshakeMs), options.handshakeMs);
    try {
      const info = await engine.request("initialize", { protocolVersion, host: options.host });
      return { engine, info };
    } catch (error) {
      engine.stop();
      throw error;
    } finally {
      clearTimeout(limit);
    }
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /**
   * Ends in exactly one result or one typed error; aborting `signal` asks the engine to cancel.
   * @throws engine/closed with the reason and the end of stderr, for pending calls and all later ones
   */
  async request<M extends EngineMethod>(
    method: M,
    params: EngineParams<M>,
    signal?: AbortSignal,
  ): Promise<EngineResult<M>> {
    if (this.closed) throw this.closed;
    const cancellation = new CancellationTokenSource();
    const cancel = () => cancellation.cancel();
    if (signal?.aborted) throw new RerouteError("cancelled", "cancelled");
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await this.connection.sendRequest<EngineResult<M>>(method, params, cancellation.token);
    } catch (error) {
      if (error instanceof ResponseError && error.data !== undefined) throw fromWireError(error.message, error.data);
      // Writing to a dying process and losing an answer both mean the same; the close event has the reason.
      throw await this.closeReason(error);
    } finally {
      signal?.removeEventListener("abort", cancel);
      cancellation.dispose();
    }
  }

  /** Closes the channel, which ends the engine; kills it when it does not. With `linger` it may finish its runs. */
  stop(linger = false): void {
    this.asked = true;
    if (this.child.connected) this.child.disconnect();
    if (linger) {
      this.child.unref();
      return;
    }
    const kill = setTimeout(() => this.child.kill("SIGKILL"), stopGraceMs);
    kill.unref();
    this.child.once("close", () => clearTimeout(kill));
  }

  /** The close event may come a little after the channel broke. */
  private async closeReason(error: unknown): Promise<Error> {
    for (let waited = 0; !this.closed && waited < stopGraceMs; waited += 20) {
      if (this.child.exitCode === null && this.child.signalCode === null && this.child.connected) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    if (this.closed) return this.closed;
    return error instanceof Error ? error : new RerouteError("internal", String(error));
  }

  /** A process that hangs before it listens would leave its host waiting for ever. */
  private giveUp(waitedMs: number): void {
    this.fail(`The engine process did not answer within ${waitedMs / 1000} s after it was started, and was ended`);
    this.child.kill("SIGKILL");
  }

  private close(reason: string): void {
    this.fail(`The engine process ended (${reason}) before it answered`);
  }

  private fail(what: string): void {
    if (this.closed) return;
    const last = this.stderr.lines(8).join("\n");
    const output = last === "" ? "" : `; its last output was:\n${last}`;
    this.closed = new RerouteError("engine/closed", `${what}${output}`);
    this.options.onClose(this.closed, this.asked);
    this.connection.dispose(); // rejects what is pending
  }
}
