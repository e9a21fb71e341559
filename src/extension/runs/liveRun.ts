import type { CellProgress, ComparisonFile } from "../../protocol/compare";
import type { RunOutcome } from "../../protocol/engine";
import type { ErrorCode } from "../../protocol/errors";
import type { MetricsLine } from "../../protocol/metrics";
import type { Progress } from "../../protocol/progress";
import type { RunFile } from "../../protocol/run";

/** A run or comparison that this window started or resumed, as far as its events have told. */
export interface LiveRun {
  /** Of a comparison: its folder, which holds one run folder a cell. */
  runDirectory: string;
  name: string;
  phase: "queued" | "running" | "cancelling" | "done" | "failed" | "cancelled";
  run: RunFile | null;
  progress: Progress | null;
  /** Held-out evaluations so far, in order of step. */
  heldOut: { step: number; kl: number; best: boolean }[];
  latestLoss: number | null;
  outcome: RunOutcome | null;
  /** The cell that a comparison works on, and when it began (milliseconds as of Date.now); null for other runs. */
  cell: (CellProgress & { since: number }) | null;
  /** What a comparison is expected to take, seconds; null where nobody has asked. */
  expectedSeconds: number | null;
  comparison: ComparisonFile | null;
  error: { code: ErrorCode; message: string } | null;
}

export type LiveRunEvent =
  | { type: "progress"; progress: Progress }
  | { type: "metrics"; line: MetricsLine }
  | { type: "stageChanged"; run: RunFile }
  | { type: "cellBegun"; cell: CellProgress; at: number }
  | { type: "cancelAsked" }
  | { type: "done"; outcome: RunOutcome }
  | { type: "compared"; comparison: ComparisonFile }
  | { type: "failed"; error: { code: ErrorCode; message: string } };

export function newLiveRun(runDirectory: string, name: string, expectedSeconds: number | null = null): LiveRun {
  return {
    runDirectory,
    name,
    phase: "queued",
    run: null,
    progress: null,
    heldOut: [],
    latestLoss: null,
    outcome: null,
    cell: null,
    expectedSeconds,
    comparison: null,
    error: null,
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
      return { ...live, phase: working, progress: event.progress };
    case "stageChanged":
      return { ...live, phase: working, run: event.run, progress: sameStage(live.progress, event.run) };
    case "metrics":
      return withMetrics(live, event.line);
    case "cellBegun":
      return { ...live, phase: working, progress: null, cell: { ...event.cell, since: event.at } };
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

/** Progress belongs to one stage; once another runs, the old one says nothing. */
function sameStage(progress: Progress | null, run: RunFile): Progress | null {
  const running = run.stages.find(({ state }) => state === "running");
  return progress && running?.id === progress.stage ? progress : null;
}

export interface OverallProgress {
  fraction: number | null;
  remainingSeconds: number | null;
}

/**
 * Share of the whole run that is done, 0..1, and the seconds left; null where it cannot be estimated. Stages weigh as
 * much as the pre-flight expects them to take, or all the same without one.
 */
export function overallProgress(live: LiveRun, now = Date.now()): OverallProgress {
  if (live.phase === "done") return { fraction: 1, remainingSeconds: 0 };
  if (live.cell) return comparisonProgress(live.cell, live.expectedSeconds, now);
  if (!live.run) return { fraction: null, remainingSeconds: null };
  const expected = new Map(live.run.preflight?.stages.map(({ stage, seconds }) => [stage, seconds]));
  const stages = live.run.stages.filter(({ state }) => state !== "skipped");
  const known = stages.some(({ id }) => (expected.get(id) ?? 0) > 0);
  const { progress } = live;

  let total = 0;
  let done = 0;
  let remaining = 0;
  for (const { id, state } of stages) {
    const weight = known ? (expected.get(id) ?? 0) : 1;
    const share =
      state === "done" ? 1 : progress?.stage === id && progress.total > 0 ? progress.done / progress.total : 0;
    total += weight;
    done += weight * Math.min(1, share);
    // The running stage knows better than the pre-flight how long it still takes.
    remaining +=
      progress?.stage === id && progress.remainingSeconds !== undefined
        ? progress.remainingSeconds
        : weight * (1 - share);
  }
  return { fraction: total > 0 ? done / total : null, remainingSeconds: known ? remaining : null };
}

/**
 * Cells weigh the same. Time left is what the engine said when the cell began, from the pace of the cells before it, or
 * else the pre-flight's; what has passed since then is taken off.
 */
function comparisonProgress(
  { number, total, remainingSeconds, since }: NonNullable<LiveRun["cell"]>,
  expectedSeconds: number | null,
  now: number,
): OverallProgress {
  const left = remainingSeconds ?? (expectedSeconds === null ? null : (expectedSeconds * (total - number + 1)) / total);
  return {
    fraction: (number - 1) / total,
    remainingSeconds: left === null ? null : Math.max(0, left - (now - since) / 1000),
  };
}
