import type { ComparisonStart } from "../../protocol/engine";
import { errorCodeOf } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import type { Recipe } from "../../protocol/recipe";
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

  constructor(private readonly engine: Pick<EngineClient, "request" | "onEvent">) {
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
          this.apply(event.body.runDirectory, { type: "cellBegun", cell: event.body.cell, at: Date.now() });
          this.tellStage(event.body.runDirectory);
          return;
        case "comparison/changed":
          this.tellStage(event.body.runDirectory);
          return;
        case "log":
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

  /** Runs being worked on or waiting, in the order they were started. */
  unfinished(): LiveRun[] {
    return [...this.tracked.values()].map(({ live }) => live).filter(isUnfinished);
  }

  /** Works until the run ends, however it ends; the state says how. Never rejects. */
  start({ name, ...start }: RunStart): Promise<LiveRun> {
    return this.track(newLiveRun(start.runDirectory, name), async (signal) => ({
      type: "done",
      outcome: await this.engine.request("run/start", start, signal),
    }));
  }

  /** Continues a run folder where it stopped. */
  resume(runDirectory: string, name: string, force = false): Promise<LiveRun> {
    return this.track(newLiveRun(runDirectory, name), async (signal) => ({
      type: "done",
      outcome: await this.engine.request("run/resume", { runDirectory, ...(force ? { force } : {}) }, signal),
    }));
  }

  /** The same for a comparison, which is known by its folder. `expectedSeconds` is its pre-flight's estimate. */
  startComparison(start: ComparisonStart, expectedSeconds: number | null): Promise<LiveRun> {
    return this.track(newLiveRun(start.directory, start.name, expectedSeconds), async (signal) => ({
      type: "compared",
      comparison: (await this.engine.request("comparison/start", start, signal)).comparison,
    }));
  }

  /** Continues a comparison's folder where it stopped. */
  resumeComparison(directory: string, name: string): Promise<LiveRun> {
    return this.track(newLiveRun(directory, name), async (signal) => ({
      type: "compared",
      comparison: (await this.engine.request("comparison/resume", { directory }, signal)).comparison,
    }));
  }

  /** Asks the engine to stop; what is saved can be resumed. False: this window does not work on that run. */
  cancel(runDirectory: string): boolean {
    const tracked = this.tracked.get(runDirectory);
    if (!tracked || !isUnfinished(tracked.live)) return false;
    this.apply(runDirectory, { type: "cancelAsked" });
    tracked.abort.abort();
    return true;
  }

  private async track(begun: LiveRun, work: (signal: AbortSignal) => Promise<LiveRunEvent>): Promise<LiveRun> {
    const { runDirectory } = begun;
    const earlier = this.tracked.get(runDirectory);
    if (earlier && isUnfinished(earlier.live)) return earlier.live;
    const abort = new AbortController();
    // The engine does one job at a time.
    const live: LiveRun = { ...begun, phase: this.unfinished().length > 0 ? "queued" : "running" };
    const tracked: Tracked = { live, abort };
    this.tracked.set(runDirectory, tracked);
    this.tellChange(tracked.live);
    try {
      this.apply(runDirectory, await work(abort.signal));
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.apply(runDirectory, { type: "failed", error: { code: errorCodeOf(error), message } });
    }
    this.tellStage(runDirectory);
    return tracked.live;
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
