import { expect, it } from "vitest";
import type { EngineEvent } from "../../../src/extension/engine/connection";
import { RunTracker } from "../../../src/extension/runs/runTracker";
import { RerouteError } from "../../../src/protocol/errors";
import type { Recipe } from "../../../src/protocol/recipe";

/** An engine that answers when the test says so. */
function fakeEngine() {
  const listeners: ((event: EngineEvent) => void)[] = [];
  const calls: { method: string; signal: AbortSignal | undefined; end: (error?: Error) => void }[] = [];
  const request = (method: string, params: { runDirectory: string }, signal?: AbortSignal) =>
    new Promise((resolve, reject) => {
      const outcome = { runDirectory: params.runDirectory, output: "o", report: null, evaluation: null };
      signal?.addEventListener("abort", () => reject(new RerouteError("cancelled", "cancelled")));
      calls.push({ method, signal, end: (error) => (error ? reject(error) : resolve(outcome)) });
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
  expect(tracker.unfinished().map(({ phase }) => phase)).toEqual(["queued"]);
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
