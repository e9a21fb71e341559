import { expect, it } from "vitest";
import type { EngineEvent } from "../../../src/extension/engine/connection";
import { newLiveRun, forceableRefusal, type LiveRun } from "../../../src/extension/runs/liveRun";
import { progressLine } from "../../../src/extension/runs/runMessages";
import { english } from "../../../src/protocol/translate";
import { RunTracker } from "../../../src/extension/runs/runTracker";
import { RerouteError } from "../../../src/protocol/errors";
import type { ComparisonCell, ComparisonFile, ComparisonRecipe } from "../../../src/protocol/compare";
import type { Recipe } from "../../../src/protocol/recipe";

/** An engine that answers when the test says so. */
function fakeEngine() {
  const listeners: ((event: EngineEvent) => void)[] = [];
  const calls: { method: string; params: object; signal: AbortSignal | undefined; end: (error?: Error) => void }[] = [];
  const request = (method: string, params: { runDirectory: string }, signal?: AbortSignal) =>
    new Promise((resolve, reject) => {
      const outcome = {
        comparison: { cells: [] },
        runDirectory: params.runDirectory,
        output: "o",
        report: null,
        evaluation: null,
      };
      signal?.addEventListener("abort", () => reject(new RerouteError("cancelled", "cancelled")));
      calls.push({ method, params, signal, end: (error) => (error ? reject(error) : resolve(outcome)) });
    });
  const engine = {
    request,
    onEvent: (listener: (event: EngineEvent) => void) => (listeners.push(listener), () => undefined),
  };
  return {
    engine: engine as never,
    calls,
    emit: (event: EngineEvent) => listeners.forEach((listener) => listener(event)),
  };
}

const start = { runDirectory: "/runs/a", name: "a", recipe: {} as Recipe, baseFolder: "/" };

it("follows a run from start to end", async () => {
  const { engine, calls, emit } = fakeEngine();
  const tracker = new RunTracker(engine);
  const lines: string[] = [];
  const stages: string[] = [];
  tracker.onMetrics((runDirectory, line) => lines.push(`${runDirectory} ${line.kind}`));
  tracker.onStage((runDirectory) => stages.push(runDirectory));
  const end = tracker.start(start);
  expect(tracker.unfinished().map(({ phase }) => phase)).toEqual(["running"]);
  emit({
    name: "run/metrics",
    body: { runDirectory: "/runs/a", line: { kind: "held-out", step: 1, kl: 0.1, nll: 2, best: true } },
  });
  emit({
    name: "run/metrics",
    body: { runDirectory: "/runs/elsewhere", line: { kind: "held-out", step: 9, kl: 9, nll: 2, best: true } },
  });
  calls[0]!.end();
  expect(await end).toMatchObject({ phase: "done", heldOut: [{ step: 1, kl: 0.1 }] });
  expect(lines).toEqual(["/runs/a held-out", "/runs/elsewhere held-out"]);
  expect(stages).toEqual(["/runs/a"]);
  expect(tracker.unfinished()).toEqual([]);
});

it("cancels through the signal, and only what it works on", async () => {
  const { engine, calls } = fakeEngine();
  const tracker = new RunTracker(engine);
  const end = tracker.start(start);
  expect(tracker.cancel("/runs/other")).toBe(false);
  expect(tracker.cancel("/runs/a")).toBe(true);
  expect(calls[0]!.signal?.aborted).toBe(true);
  expect(await end).toMatchObject({ phase: "cancelled", error: null });
  expect(tracker.cancel("/runs/a")).toBe(false);
});

it("a crash fails the run, which can then be resumed", async () => {
  const { engine, calls } = fakeEngine();
  const tracker = new RunTracker(engine);
  const end = tracker.start(start);
  calls[0]!.end(new RerouteError("engine/closed", "SIGKILL"));
  expect(await end).toMatchObject({ phase: "failed", error: { code: "engine/closed", message: "SIGKILL" } });
  const again = tracker.resume("/runs/a", "a");
  expect(calls.map(({ method }) => method)).toEqual(["run/start", "run/resume"]);
  calls[1]!.end();
  expect(await again).toMatchObject({ phase: "done" });
});

it("does not start twice what is being worked on", async () => {
  const { engine, calls } = fakeEngine();
  const tracker = new RunTracker(engine);
  void tracker.start(start);
  await tracker.resume("/runs/a", "a");
  expect(calls).toHaveLength(1);
  calls[0]!.end();
});

it("waits for other work only where there is some", async () => {
  const { engine, calls } = fakeEngine();
  const tracker = new RunTracker(engine);
  const line = (live: LiveRun) => progressLine(live, english);
  const first = tracker.start(start);
  const second = tracker.resume("/runs/b", "b");
  expect(tracker.unfinished().map(line)).toEqual(["starting", "waiting for other work to end"]);
  for (const call of calls) call.end();
  await Promise.all([first, second]);
});

it("follows a comparison by its folder, cancels it and continues it", async () => {
  const { engine, calls, emit } = fakeEngine();
  const tracker = new RunTracker(engine);
  const changed: string[] = [];
  tracker.onStage((directory) => changed.push(directory));
  const comparison = { directory: "/runs/grid", name: "grid", recipe: {} as ComparisonRecipe, baseFolder: "/" };
  const end = tracker.startComparison(comparison);
  const cell = { id: "reap-0.5", number: 1, total: 2, remainingSeconds: null };
  emit({ name: "comparison/cell", body: { runDirectory: "/runs/grid", cell } });
  expect(tracker.get("/runs/grid")).toMatchObject({ phase: "running", cell });
  emit({ name: "comparison/changed", body: { runDirectory: "/runs/grid" } });
  expect(tracker.cancel("/runs/grid")).toBe(true);
  expect(await end).toMatchObject({ phase: "cancelled", cell: null });
  expect(changed).toEqual(Array(3).fill("/runs/grid"));

  const again = tracker.resumeComparison("/runs/grid", "grid");
  calls[1]!.end();
  expect(await again).toMatchObject({ phase: "done", comparison: { cells: [] } });
  expect(calls.map(({ method }) => method)).toEqual(["comparison/start", "comparison/resume"]);
});

it("a comparison may be forced where the evaluation text of a cell was trained on, a run where its own was", () => {
  const refusal = { code: "data/trained-on", message: "the evaluation text is the calibration text itself" } as const;
  const live = newLiveRun("/runs/grid", "grid");
  const cell = (error: { code: string; message: string } | null) => ({ error }) as ComparisonCell;
  const comparisonOf = (...cells: ComparisonCell[]) => ({ ...live, comparison: { cells } as ComparisonFile });
  expect(forceableRefusal(live)).toBeNull();
  expect(forceableRefusal({ ...live, error: refusal })).toBe(refusal);
  expect(forceableRefusal(comparisonOf(cell(null), cell(refusal)))).toBe(refusal);
  expect(forceableRefusal(comparisonOf(cell(null), cell({ code: "preflight/disk", message: "no" })))).toBeNull();
  const other = {
    code: "teacher/mismatch",
    message: "another teacher; choose that one, or use --force to go on",
  } as const;
  expect(forceableRefusal({ ...live, error: other })).toBe(other);
});

it("a run whose evaluation text was trained on can go on in the same folder, with force", async () => {
  const { engine, calls } = fakeEngine();
  const tracker = new RunTracker(engine);
  const refused = tracker.start(start);
  calls[0]!.end(new RerouteError("data/trained-on", "the evaluation text is the calibration text itself"));
  expect(await refused).toMatchObject({ phase: "failed", error: { code: "data/trained-on" } });
  const forced = tracker.start({ ...start, force: true });
  calls[1]!.end();
  expect(await forced).toMatchObject({ phase: "done", error: null });
  void tracker.resume("/runs/a", "a", { force: true });
  void tracker.resumeComparison("/runs/grid", "grid", { force: true });
  expect(calls.map(({ params }) => "force" in params && params.force)).toEqual([false, true, true, true]);
});
