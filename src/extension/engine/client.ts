import type { EngineInfo, EngineMethod, EngineParams, EngineResult } from "../../protocol/engine";
import { isCancelled, type RerouteError } from "../../protocol/errors";
import { EngineConnection, type EngineEvent, type EngineStart } from "./connection";

/** What the Overview and the status bar say about the engine. */
export interface EngineState {
  state: "stopped" | "starting" | "ready" | "unavailable" | "crashed";
  message: string | null;
}

export interface EngineClientOptions {
  script: string;
  host: string;
  /** An engine without work is ended after this long. */
  idleMs: number;
  log: (level: "info" | "warning" | "error", message: string) => void;
}

/**
 * The window's one engine. Nothing is started before the first request; an engine that crashed is started again by the
 * next request; one that has been idle is ended.
 */
export class EngineClient {
  private starting: Promise<{ engine: EngineConnection; info: EngineInfo }> | null = null;
  private current: EngineConnection | null = null;
  private pending = 0;
  /** Raised whenever an engine is given up, so that a late close of an old one changes nothing. */
  private generation = 0;
  private idleTimer: NodeJS.Timeout | undefined;
  private state: EngineState = { state: "stopped", message: null };
  private readonly eventListeners = new Set<(event: EngineEvent) => void>();
  private readonly stateListeners = new Set<(state: EngineState) => void>();

  constructor(private readonly options: EngineClientOptions) {}

  getState(): EngineState {
    return this.state;
  }

  /** Process id of the running engine, for diagnosis. */
  get pid(): number | undefined {
    return this.current?.pid;
  }

  /** Listens to the engine's events, over restarts. Returns the way to stop. */
  onEvent(listener: (event: EngineEvent) => void): () => void {
    this.eventListeners.add(listener);
    return () => this.eventListeners.delete(listener);
  }

  onStateChange(listener: (state: EngineState) => void): () => void {
    this.stateListeners.add(listener);
    return () => this.stateListeners.delete(listener);
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
    } catch (error) {
      if (!isCancelled(error))
        this.options.log("error", `${method}: ${error instanceof Error ? error.message : String(error)}`);
      throw error;
    } finally {
      if (--this.pending === 0) this.scheduleIdleStop();
    }
  }

  /** Ends the engine; with `linger` it may finish the runs it works on. */
  dispose(linger = false): void {
    clearTimeout(this.idleTimer);
    this.stop(linger);
  }

  /** Forgets the current engine at once: a request that comes while it ends must get a new one. */
  private letGo(): EngineConnection | null {
    const engine = this.current;
    this.current = null;
    this.starting = null;
    this.generation++;
    return engine;
  }

  private stop(linger = false): void {
    const engine = this.letGo();
    engine?.stop(linger);
    if (engine) this.setState({ state: "stopped", message: null });
  }

  private async start(): Promise<EngineConnection> {
    if (!this.starting) {
      this.setState({ state: "starting", message: null });
      this.starting = EngineConnection.start(this.callbacks(this.generation));
    }
    const attempt = this.starting;
    try {
      const { engine, info } = await attempt;
      if (this.starting === attempt && this.current !== engine) {
        this.current = engine;
        this.options.log("info", `engine ${info.version} started: process ${info.pid}, node ${info.node}`);
        this.setState({ state: "ready", message: info.version });
      }
      return engine;
    } catch (error) {
      if (this.starting === attempt) this.starting = null;
      this.setState({ state: "unavailable", message: error instanceof Error ? error.message : String(error) });
      throw error;
    }
  }

  private callbacks(generation: number): EngineStart {
    return {
      script: this.options.script,
      host: this.options.host,
      onEvent: (event) => {
        for (const listener of this.eventListeners) listener(event);
      },
      onOutput: (line) => this.options.log("warning", line),
      onClose: (error, asked) => {
        if (asked) this.options.log("info", "engine stopped");
        else this.crashed(generation, error);
      },
    };
  }

  private crashed(generation: number, error: RerouteError): void {
    this.options.log("error", error.message);
    if (generation !== this.generation) return;
    this.letGo();
    this.setState({ state: "crashed", message: error.message });
  }

  private scheduleIdleStop(): void {
    clearTimeout(this.idleTimer);
    this.idleTimer = setTimeout(() => {
      if (this.pending === 0) this.stop();
    }, this.options.idleMs);
    this.idleTimer.unref();
  }

  private setState(state: EngineState): void {
    this.state = state;
    for (const listener of this.stateListeners) listener(state);
  }
}
