import type { CellProgress, ComparisonFile } from "../../protocol/compare";
import type { RunOutcome } from "../../protocol/engine";
import type { ErrorCode } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import type { Progress } from "../../protocol/progress";
import type { RunFile } from "../../protocol/run";
import { mayBeForced } from "../editorWords";

/** A run or comparison that this window started or resumed, as far as its events have told. */
export interface LiveRun {
  /** Of a comparison: its folder, which holds one run folder a cell. */
  runDirectory: string;
  name: string;
  phase: "queued" | "running" | "cancelling" | "done" | "failed" | "cancelled";
  run: RunFile | null;
  progress: Progress | null;
  /** Of the whole run or comparison, 0..1; never falls. Null before anything is known. */
  share: number | null;
  /** Of the same, seconds, as they were last told; null before that, and where nothing was predicted. */
  remainingSeconds: number | null;
  /** Held-out evaluations so far, in order of step. */
  heldOut: { step: number; kl: number; best: boolean }[];
  latestLoss: number | null;
  outcome: RunOutcome | null;
  /** The cell that a comparison works on; null for other runs. */
  cell: CellProgress | null;
  comparison: ComparisonFile | null;
  error: { code: ErrorCode; message: string } | null;
  /** Another process works on it; this window only looks on. */
  elsewhere: boolean;
}

export type LiveRunEvent =
  /** What the run's metrics file held before this window looked. */
  | { type: "metricsSoFar"; lines: MetricsLine[] }
  | { type: "progress"; progress: Progress }
  | { type: "metrics"; line: MetricsLine }
  | { type: "stageChanged"; run: RunFile }
  | { type: "cellBegun"; cell: CellProgress }
  | { type: "cancelAsked" }
  | { type: "done"; outcome: RunOutcome }
  | { type: "compared"; comparison: ComparisonFile }
  | { type: "failed"; error: { code: ErrorCode; message: string } };

/** Why nothing was done of a run, or of a comparison's cell, that may be forced to go on, as where its evaluation text was trained on. */
export function forceableRefusal({ error, comparison }: LiveRun): { code: string; message: string } | null {
  const errors = [error, ...(comparison?.cells ?? []).map((cell) => cell.error)];
  return errors.find((one) => one && mayBeForced(one)) ?? null;
}

/** Whether it begins behind other work, its tracker knows. */
export function newLiveRun(runDirectory: string, name: string): LiveRun {
  return {
    runDirectory,
    name,
    phase: "queued",
    run: null,
    progress: null,
    share: null,
    remainingSeconds: null,
    heldOut: [],
    latestLoss: null,
    outcome: null,
    cell: null,
    comparison: null,
    error: null,
    elsewhere: false,
  };
}

export function isUnfinished(live: LiveRun): boolean {
  return live.phase === "queued" || live.phase === "running" || live.phase === "cancelling";
}

/** The run after one event. An event that comes after the end changes nothing. */
export function nextLiveRun(live: LiveRun, event: LiveRunEvent): LiveRun {
  if (!isUnfinished(live)) return live;
  const working = live.phase === "queued" ? "running" : live.phase;
  switch (event.type) {
    case "progress":
      return { ...withProgress(live, event.progress), phase: working };
    case "stageChanged":
      return { ...live, phase: working, run: event.run, progress: sameStage(live.progress, event.run) };
    case "metrics":
      return withMetrics(live, event.line);
    case "metricsSoFar":
      return withEarlier(live, event.lines);
    case "cellBegun":
      return {
        ...live,
        ...{ phase: working, progress: null, cell: event.cell },
        remainingSeconds: event.cell.remainingSeconds ?? live.remainingSeconds,
      };
    case "cancelAsked":
      return { ...live, phase: "cancelling" };
    case "done":
      return { ...live, phase: "done", progress: null, outcome: event.outcome };
    case "compared":
      return { ...live, phase: "done", progress: null, cell: null, comparison: event.comparison };
    case "failed":
      return {
        ...live,
        phase: event.error.code === "cancelled" ? "cancelled" : "failed",
        progress: null,
        cell: null,
        error: event.error.code === "cancelled" ? null : event.error,
      };
  }
}

function withMetrics(live: LiveRun, line: MetricsLine): LiveRun {
  if (line.kind === "update") return { ...live, latestLoss: line.loss };
  if (line.kind === "resources") return live;
  // A resumed run repeats the evaluations behind its last saved state.
  const earlier = live.heldOut.filter(({ step }) => step < line.step);
  return { ...live, heldOut: [...earlier, { step: line.step, kl: line.kl, best: line.best }] };
}

/** Evaluations of before a resume, or of another process: the chart is whole. */
function withEarlier(live: LiveRun, lines: MetricsLine[]): LiveRun {
  const first = live.heldOut[0]?.step ?? Infinity;
  const all = lines.reduce(withMetrics, { ...live, heldOut: [] });
  return {
    ...live,
    heldOut: [...all.heldOut.filter(({ step }) => step < first), ...live.heldOut],
    latestLoss: live.latestLoss ?? all.latestLoss,
  };
}

/** Progress belongs to one stage; once another runs, the old one says nothing. */
function sameStage(progress: Progress | null, run: RunFile): Progress | null {
  const running = run.stages.find(({ state }) => state === "running");
  return progress && running?.id === progress.stage ? progress : null;
}

export interface OverallProgress {
  fraction: number | null;
  remainingSeconds: number | null;
}

/** Share of the whole run that is done, 0..1, and the seconds left, as the engine counts them; null where nothing is known. */
export function overallProgress({ phase, share, remainingSeconds }: LiveRun): OverallProgress {
  return phase === "done" ? { fraction: 1, remainingSeconds: 0 } : { fraction: share, remainingSeconds };
}

/** The share never falls while this window looks on; between two stages, what was said last still holds. */
function withProgress(live: LiveRun, progress: Progress): LiveRun {
  if (!progress.run) return { ...live, progress };
  const { share, remainingSeconds = live.remainingSeconds } = progress.run;
  return { ...live, progress, share: Math.max(live.share ?? 0, share), remainingSeconds };
}
