import {
  workload,
  type EngineParams,
  type EngineResult,
  type ServiceMethod,
  type Workload,
} from "../../protocol/engine";
import { isCancelled } from "../../protocol/errors";
import type { EngineEvent } from "./connection";
import { EngineProcess, type EngineState } from "./engineProcess";

export type { EngineState } from "./engineProcess";

export interface EngineClientOptions {
  script: string;
  host: string;
  /** A process without work is ended after this long. */
  idleMs: number;
  /** Milliseconds that a new process gets to answer. */
  handshakeMs?: number;
  /** Folder with another onnxruntime-node; null: the extension's own. Read when a process starts. */
  onnxruntimePath?: () => string | null;
  log: (level: "info" | "warning" | "error", message: string) => void;
}

/** What the processes' states amount to, the most telling first. */
const byWeight: readonly EngineState["state"][] = ["crashed", "unavailable", "starting", "ready", "stopped"];

type DisconnectBehaviour = EngineParams<"engine/onDisconnect">["behaviour"];

/**
 * The window's engine: one process for jobs and one for inspections (protocol/engine.ts, `workload`), since a job's graph
 * runs block the thread that would answer. Nothing is started before the first request of its kind.
 */
export class EngineClient {
  private readonly processes: Record<Workload, EngineProcess>;
  private readonly states: Record<Workload, EngineState>;
  private behaviour: DisconnectBehaviour = "exit";
  private readonly eventListeners = new Set<(event: EngineEvent) => void>();
  private readonly stateListeners = new Set<(state: EngineState) => void>();

  constructor(private readonly options: EngineClientOptions) {
    const stopped: EngineState = { state: "stopped", message: null };
    this.states = { job: stopped, inspection: stopped };
    this.processes = { job: this.process("job"), inspection: this.process("inspection") };
  }

  getState(): EngineState {
    const states = [this.states.job, this.states.inspection];
    return states.reduce((a, b) => (byWeight.indexOf(b.state) < byWeight.indexOf(a.state) ? b : a));
  }

  /** Ids of the running processes, for diagnosis. */
  get pids(): Partial<Record<Workload, number>> {
    const { job, inspection } = this.processes;
    return {
      ...(job.running?.pid === undefined ? {} : { job: job.running.pid }),
      ...(inspection.running?.pid === undefined ? {} : { inspection: inspection.running.pid }),
    };
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
  async request<M extends ServiceMethod>(
    method: M,
    params: EngineParams<M>,
    signal?: AbortSignal,
  ): Promise<EngineResult<M>> {
    try {
      return await this.processes[workload[method]].request(method, params, signal);
    } catch (error) {
      if (!isCancelled(error))
        this.options.log("error", `${method}: ${error instanceof Error ? error.message : String(error)}`);
      throw error;
    }
  }

  /** What becomes of jobs once this window is gone: then nobody can tell them. Told to the job process at every change. */
  onDisconnect(behaviour: DisconnectBehaviour): void {
    if (behaviour === this.behaviour) return;
    this.behaviour = behaviour;
    const { log } = this.options;
    this.processes.job.running?.request("engine/onDisconnect", { behaviour }).then(
      () => log("info", `engine/onDisconnect: ${behaviour}`),
      (error: unknown) => log("error", `engine/onDisconnect: ${String(error)}`),
    );
  }

  /** Ends the processes; with `linger` the one for jobs may finish the runs it works on. */
  dispose(linger = false): void {
    this.processes.job.stop(linger);
    this.processes.inspection.stop();
  }

  private process(kind: Workload): EngineProcess {
    const { script, host, idleMs, handshakeMs = 60_000, log, onnxruntimePath } = this.options;
    return new EngineProcess({
      ...{ script, host, idleMs, handshakeMs, log, workload: kind },
      ...(onnxruntimePath === undefined ? {} : { onnxruntimePath }),
      onEvent: (event) => {
        for (const listener of this.eventListeners) listener(event);
      },
      onState: (state) => this.setState(kind, state),
      ...(kind === "job" ? { onStart: (engine) => this.tellBehaviour(engine) } : {}),
    });
  }

  private async tellBehaviour(engine: NonNullable<EngineProcess["running"]>): Promise<void> {
    await engine.request("engine/onDisconnect", { behaviour: this.behaviour });
  }

  private setState(kind: Workload, state: EngineState): void {
    const before = this.getState();
    this.states[kind] = state;
    const now = this.getState();
    if (now.state === before.state && now.message === before.message) return;
    for (const listener of this.stateListeners) listener(now);
  }
}
