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
} from "../../protocol/engine";
import { RerouteError } from "../../protocol/errors";
import { fromWireError } from "../../protocol/rpc";
import { endReason } from "./endReason";
import { engineEnvironment } from "./engineEnvironment";
import { StderrTail } from "./stderrTail";

/** Every event, by the compiler. */
const eventNames = Object.keys({
  "run/progress": true,
  "run/metrics": true,
  "run/stageChanged": true,
  "comparison/cell": true,
  "comparison/changed": true,
  log: true,
} satisfies Record<keyof EngineEvents, true>) as (keyof EngineEvents)[];

/** One event with its name, so that a listener can switch on it. */
export type EngineEvent = { [E in keyof EngineEvents]: { name: E; body: EngineEvents[E] } }[keyof EngineEvents];

export interface EngineStart {
  /** The bundled engine program. */
  script: string;
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
   * @throws engine/version for another protocol, engine/closed when the process ends before it answers
   */
  static async start(options: EngineStart): Promise<{ engine: EngineConnection; info: EngineInfo }> {
    const child = fork(options.script, [], {
      env: engineEnvironment(process.env),
      // Never inherit --inspect flags of the extension host.
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      // Its own process group: a run may be allowed to outlive the window. Windows needs no group for that.
      detached: process.platform !== "win32",
    });
    const connection = createMessageConnection(new IPCMessageReader(child), new IPCMessageWriter(child));
    const engine = new EngineConnection(child, connection, options);
    try {
      const info = await engine.request("initialize", { protocolVersion, host: options.host });
      return { engine, info };
    } catch (error) {
      engine.stop();
      throw error;
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

  private close(reason: string): void {
    if (this.closed) return;
    const last = this.stderr.lines(8).join("\n");
    this.closed = new RerouteError(
      "engine/closed",
      `The engine process ended (${reason}) before it answered` +
        (last === "" ? "" : `; its last output was:\n${last}`),
    );
    this.options.onClose(this.closed, this.asked);
    this.connection.dispose(); // rejects what is pending
  }
}
