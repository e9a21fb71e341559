import type { EngineInfo, EngineMethod, EngineParams, EngineResult, Workload } from "../../protocol/engine";
import type { RerouteError } from "../../protocol/errors";
import { EngineConnection, type EngineEvent, type EngineStart } from "./connection";

/** What the Overview and the status bar say about an engine process. */
export interface EngineState {
  state: "stopped" | "starting" | "ready" | "unavailable" | "crashed";
  message: string | null;
}

export interface EngineProcessOptions {
  script: string;
  host: string;
  workload: Workload;
  handshakeMs: number;
  /** Folder with another onnxruntime-node; null: the extension's own. Read when a process starts. */
  onnxruntimePath?: () => string | null;
  /** A process without work is ended after this long. */
  idleMs: number;
  log: (level: "info" | "warning" | "error", message: string) => void;
  onEvent: (event: EngineEvent) => void;
  onState: (state: EngineState) => void;
  /** Called with each new process before its first request. */
  onStart?: (engine: EngineConnection) => Promise<void>;
}

/**
 * One engine process over its restarts. It is started by the first request; one that crashed is started again by the next
 * request; one that has been idle is ended.
 */
export class EngineProcess {
  private starting: Promise<{ engine: EngineConnection; info: EngineInfo }> | null = null;
  private current: EngineConnection | null = null;
  private pending = 0;
  /** Raised whenever a process is given up, so that a late close of an old one changes nothing. */
  private generation = 0;
  private idleTimer: NodeJS.Timeout | undefined;

  constructor(private readonly options: EngineProcessOptions) {}

  get running(): EngineConnection | null {
    return this.current;
  }

  /** @throws whatever the engine answered, or engine/closed when it died meanwhile */
  async request<M extends EngineMethod>(
    method: M,
    params: EngineParams<M>,
    signal?: AbortSignal,
  ): Promise<EngineResult<M>> {
    this.pending++;
    clearTimeout(this.idleTimer);
    try {
      const engine = this.current ?? (await this.start());
      return await engine.request(method, params, signal);
    } finally {
      if (--this.pending === 0) this.scheduleIdleStop();
    }
  }

  /** Ends the process; with `linger` it may finish the runs it works on. */
  stop(linger = false): void {
    clearTimeout(this.idleTimer);
    const engine = this.letGo();
    engine?.stop(linger);
    if (engine) this.options.onState({ state: "stopped", message: null });
  }

  /** Forgets the current process at once: a request that comes while it ends must get a new one. */
  private letGo(): EngineConnection | null {
    const engine = this.current;
    this.current = null;
    this.starting = null;
    this.generation++;
    return engine;
  }

  private async start(): Promise<EngineConnection> {
    if (!this.starting) {
      this.options.onState({ state: "starting", message: null });
      this.starting = this.connect();
    }
    const attempt = this.starting;
    try {
      const { engine, info } = await attempt;
      if (this.starting === attempt && this.current !== engine) {
        this.current = engine;
        const { log, workload, onState } = this.options;
        log("info", `engine ${info.version} for ${workload}s started: process ${info.pid}, node ${info.node}`);
        onState({ state: "ready", message: info.version });
      }
      return engine;
    } catch (error) {
      if (this.starting === attempt) this.starting = null;
      this.options.onState({ state: "unavailable", message: error instanceof Error ? error.message : String(error) });
      throw error;
    }
  }

  private async connect(): Promise<{ engine: EngineConnection; info: EngineInfo }> {
    const started = await EngineConnection.start(this.callbacks(this.generation));
    await this.options.onStart?.(started.engine);
    return started;
  }

  private callbacks(generation: number): EngineStart {
    const { script, host, workload, handshakeMs, log, onEvent, onnxruntimePath } = this.options;
    return {
      ...{ script, host, workload, handshakeMs, onEvent },
      ...(onnxruntimePath === undefined ? {} : { onnxruntimePath }),
      onOutput: (line) => log("warning", line),
      onClose: (error, asked) => {
        if (asked) log("info", `engine for ${workload}s stopped`);
        else this.crashed(generation, error);
      },
    };
  }

  private crashed(generation: number, error: RerouteError): void {
    this.options.log("error", error.message);
    if (generation !== this.generation) return;
    this.letGo();
    this.options.onState({ state: "crashed", message: error.message });
  }

  private scheduleIdleStop(): void {
    clearTimeout(this.idleTimer);
    this.idleTimer = setTimeout(() => {
      if (this.pending === 0) this.stop();
    }, this.options.idleMs);
    this.idleTimer.unref();
  }
}
