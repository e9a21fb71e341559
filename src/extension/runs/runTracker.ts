import type { ComparisonStart, EngineParams } from "../../protocol/engine";
import { errorCodeOf } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import type { Recipe } from "../../protocol/recipe";
import type { QueueChoice } from "../../protocol/workers";
import type { EngineClient } from "../engine/client";
import { isUnfinished, newLiveRun, nextLiveRun, type LiveRun, type LiveRunEvent } from "./liveRun";

export interface RunStart {
  runDirectory: string;
  name: string;
  recipe: Recipe;
  /** Folder that the recipe's relative paths start from. */
  baseFolder: string;
  /** Goes on where the pre-flight refuses what may be forced. */
  force?: boolean;
  /** Workers do its work. */
  queue?: QueueChoice;
}

interface Tracked {
  live: LiveRun;
  abort: AbortController;
}

/** The runs this window started or resumed: keeps their state from the engine's events, and can cancel them. */
export class RunTracker {
  private readonly tracked = new Map<string, Tracked>();
  private readonly changeListeners = new Set<(live: LiveRun) => void>();
  private readonly metricsListeners = new Set<(runDirectory: string, line: MetricsLine) => void>();
  private readonly stageListeners = new Set<(runDirectory: string) => void>();

  constructor(
    private readonly engine: Pick<EngineClient, "request" | "onEvent">,
    /** What a run's metrics file holds already. */
    private readonly metricsSoFar: (runDirectory: string) => Promise<MetricsLine[]> = async () => [],
  ) {
    engine.onEvent((event) => {
      switch (event.name) {
        case "run/progress":
          this.apply(event.body.runDirectory, { type: "progress", progress: event.body.progress });
          return;
        case "run/stageChanged":
          this.apply(event.body.runDirectory, { type: "stageChanged", run: event.body.run });
          this.tellStage(event.body.runDirectory);
          return;
        case "run/metrics":
          this.apply(event.body.runDirectory, { type: "metrics", line: event.body.line });
          for (const listener of this.metricsListeners) listener(event.body.runDirectory, event.body.line);
          return;
        case "comparison/cell":
          this.apply(event.body.runDirectory, { type: "cellBegun", cell: event.body.cell });
          this.tellStage(event.body.runDirectory);
          return;
        case "comparison/changed":
          this.tellStage(event.body.runDirectory);
          return;
        case "log":
        case "export/progress":
        case "generation/event":
        case "generation/scored":
          return;
      }
    });
  }

  onChange(listener: (live: LiveRun) => void): void {
    this.changeListeners.add(listener);
  }

  /** New lines of a run's metrics, in order. */
  onMetrics(listener: (runDirectory: string, line: MetricsLine) => void): void {
    this.metricsListeners.add(listener);
  }

  /** A stage of the run began or ended, so its files changed; also called at the run's end. */
  onStage(listener: (runDirectory: string) => void): void {
    this.stageListeners.add(listener);
  }

  get(runDirectory: string): LiveRun | null {
    return this.tracked.get(runDirectory)?.live ?? null;
  }

  /** Runs that this window's engine works on or that wait for it, in the order they were started. */
  unfinished(): LiveRun[] {
    return this.shown().filter(({ elsewhere }) => !elsewhere);
  }

  /** Those, and behind them the runs that other processes work on. */
  shown(): LiveRun[] {
    const all = [...this.tracked.values()].map(({ live }) => live).filter(isUnfinished);
    return [...all.filter(({ elsewhere }) => !elsewhere), ...all.filter(({ elsewhere }) => elsewhere)];
  }

  /** Shows a run that another process works on; its events come through `observed`, until `unfollow`. */
  follow(runDirectory: string, name: string): void {
    if (this.isOwn(runDirectory)) return;
    const live: LiveRun = { ...newLiveRun(runDirectory, name), phase: "running", elsewhere: true };
    this.tracked.set(runDirectory, { live, abort: new AbortController() });
    void this.readEarlier(runDirectory);
    this.tellChange(live);
  }

  /** What was seen of a run of another process. */
  observed(runDirectory: string, event: Extract<LiveRunEvent, { type: "progress" | "metrics" | "cancelAsked" }>): void {
    if (!this.tracked.get(runDirectory)?.live.elsewhere) return;
    this.apply(runDirectory, event);
    if (event.type === "metrics") for (const listener of this.metricsListeners) listener(runDirectory, event.line);
  }

  /** The other process has ended; the run's files say how. */
  unfollow(runDirectory: string): void {
    const live = this.tracked.get(runDirectory)?.live;
    if (!live?.elsewhere) return;
    this.tracked.delete(runDirectory);
    this.tellChange(live);
    this.tellStage(runDirectory);
  }

  /** Whether this window's engine works on a run, or will. */
  isOwn(runDirectory: string): boolean {
    const live = this.tracked.get(runDirectory)?.live;
    return live !== undefined && !live.elsewhere && isUnfinished(live);
  }

  /** Works until the run ends, however it ends; the state says how. Never rejects. */
  start({ name, ...start }: RunStart): Promise<LiveRun> {
    return this.track(newLiveRun(start.runDirectory, name), async (signal) => ({
      type: "done",
      outcome: await this.engine.request("run/start", start, signal),
    }));
  }

  /** Continues a run folder where it stopped. */
  resume(
    runDirectory: string,
    name: string,
    options: Pick<EngineParams<"run/resume">, "force" | "queue"> = {},
  ): Promise<LiveRun> {
    return this.track(newLiveRun(runDirectory, name), async (signal) => ({
      type: "done",
      outcome: await this.engine.request("run/resume", { runDirectory, ...options }, signal),
    }));
  }

  /** The same for a comparison, which is known by its folder. */
  startComparison(start: ComparisonStart): Promise<LiveRun> {
    return this.track(newLiveRun(start.directory, start.name), async (signal) => ({
      type: "compared",
      comparison: (await this.engine.request("comparison/start", start, signal)).comparison,
    }));
  }

  /** Continues a comparison's folder where it stopped. */
  resumeComparison(
    directory: string,
    name: string,
    options: Pick<EngineParams<"comparison/resume">, "force" | "queue"> = {},
  ): Promise<LiveRun> {
    return this.track(newLiveRun(directory, name), async (signal) => ({
      type: "compared",
      comparison: (await this.engine.request("comparison/resume", { directory, ...options }, signal)).comparison,
    }));
  }

  /** Asks the engine to stop; what is saved can be resumed. False: this window does not work on that run. */
  cancel(runDirectory: string): boolean {
    const tracked = this.tracked.get(runDirectory);
    if (!tracked || tracked.live.elsewhere || !isUnfinished(tracked.live)) return false;
    this.apply(runDirectory, { type: "cancelAsked" });
    tracked.abort.abort();
    return true;
  }

  private async track(begun: LiveRun, work: (signal: AbortSignal) => Promise<LiveRunEvent>): Promise<LiveRun> {
    const { runDirectory } = begun;
    const earlier = this.tracked.get(runDirectory);
    if (earlier && this.isOwn(runDirectory)) return earlier.live;
    const abort = new AbortController();
    // The engine does one job at a time.
    const live: LiveRun = { ...begun, phase: this.unfinished().length > 0 ? "queued" : "running" };
    const tracked: Tracked = { live, abort };
    this.tracked.set(runDirectory, tracked);
    void this.readEarlier(runDirectory);
    this.tellChange(tracked.live);
    try {
      this.apply(runDirectory, await work(abort.signal));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.apply(runDirectory, { type: "failed", error: { code: errorCodeOf(error), message } });
      // Another process works on it, and goes on: this window goes on looking.
      if (errorCodeOf(error) === "run/locked" && earlier?.live.elsewhere) this.tracked.set(runDirectory, earlier);
    }
    this.tellStage(runDirectory);
    return tracked.live;
  }

  private async readEarlier(runDirectory: string): Promise<void> {
    const lines = await this.metricsSoFar(runDirectory).catch(() => []);
    if (lines.length > 0) this.apply(runDirectory, { type: "metricsSoFar", lines });
  }

  private apply(runDirectory: string, event: LiveRunEvent): void {
    const tracked = this.tracked.get(runDirectory);
    if (!tracked) return;
    tracked.live = nextLiveRun(tracked.live, event);
    this.tellChange(tracked.live);
  }

  private tellChange(live: LiveRun): void {
    for (const listener of this.changeListeners) listener(live);
  }

  private tellStage(runDirectory: string): void {
    for (const listener of this.stageListeners) listener(runDirectory);
  }
}
