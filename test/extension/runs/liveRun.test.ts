import { describe, expect, it } from "vitest";
import {
  newLiveRun,
  nextLiveRun,
  overallProgress,
  type LiveRun,
  type LiveRunEvent,
} from "../../../src/extension/runs/liveRun";
import { outcomeLine, progressLine } from "../../../src/extension/runs/runMessages";
import { english } from "../../../src/extension/translate";
import type { RunFile, StageRecord } from "../../../src/protocol/run";

const stage = (id: StageRecord["id"], state: StageRecord["state"]): StageRecord => ({
  id,
  state,
  startedAt: null,
  finishedAt: null,
  seconds: 0,
  peakMemoryBytes: null,
  inputHash: null,
  error: null,
});

function run(stages: StageRecord[], expected: Record<string, number> = {}): RunFile {
  const timed = Object.entries(expected).map(([id, seconds]) => ({
    stage: id,
    seconds,
    peakMemoryBytes: 0,
    assumption: "",
  }));
  return { stages, preflight: timed.length > 0 ? { stages: timed } : null } as unknown as RunFile;
}

const progress = (id: string, done: number, total: number, remainingSeconds?: number): LiveRunEvent => ({
  type: "progress",
  progress: {
    stage: id,
    message: "working",
    done,
    total,
    unit: "updates",
    ...(remainingSeconds === undefined ? {} : { remainingSeconds }),
  },
});
const after = (...events: LiveRunEvent[]): LiveRun => events.reduce(nextLiveRun, newLiveRun("/runs/a", "a"));

describe("state of a run", () => {
  it.each<[string, LiveRunEvent[], LiveRun["phase"]]>([
    ["begins waiting", [], "queued"],
    ["works once it reports", [progress("profile", 1, 2)], "running"],
    [
      "is being cancelled",
      [progress("profile", 1, 2), { type: "cancelAsked" }, progress("profile", 2, 2)],
      "cancelling",
    ],
    [
      "was cancelled",
      [{ type: "cancelAsked" }, { type: "failed", error: { code: "cancelled", message: "cancelled" } }],
      "cancelled",
    ],
    ["failed", [{ type: "failed", error: { code: "engine/closed", message: "gone" } }], "failed"],
  ])("%s", (_, events, phase) => {
    expect(after(...events).phase).toBe(phase);
  });

  it("nothing changes after the end", () => {
    const done = after({
      type: "done",
      outcome: { runDirectory: "/runs/a", output: "o", report: null, evaluation: null },
    });
    expect(nextLiveRun(done, progress("profile", 1, 2))).toBe(done);
  });

  it("keeps held-out looks in order; a resumed run replaces what it repeats", () => {
    const look = (step: number, kl: number): LiveRunEvent => ({
      type: "metrics",
      line: { kind: "held-out", step, kl, nll: 3, best: true },
    });
    const live = after(look(10, 0.5), look(20, 0.4), look(30, 0.3), look(20, 0.41));
    expect(live.heldOut.map(({ step, kl }) => [step, kl])).toEqual([
      [10, 0.5],
      [20, 0.41],
    ]);
  });

  it("forgets the progress of a stage that ended", () => {
    const live = after(progress("profile", 5, 10), {
      type: "stageChanged",
      run: run([stage("profile", "done"), stage("compress", "running")]),
    });
    expect(live.progress).toBeNull();
  });
});

describe("overall progress", () => {
  const stages = [
    stage("profile", "done"),
    stage("compress", "skipped"),
    stage("calibrate", "running"),
    stage("evaluate", "pending"),
  ];

  it("weighs stages by their expected time", () => {
    const live = after(
      { type: "stageChanged", run: run(stages, { profile: 20, calibrate: 60, evaluate: 20 }) },
      progress("calibrate", 30, 60),
    );
    expect(overallProgress(live)).toEqual({ fraction: 0.5, remainingSeconds: 50 });
  });

  it("believes the running stage about its own time", () => {
    const live = after(
      { type: "stageChanged", run: run(stages, { profile: 20, calibrate: 60, evaluate: 20 }) },
      progress("calibrate", 30, 60, 100),
    );
    expect(overallProgress(live).remainingSeconds).toBe(120);
    expect(progressLine(live, english)).toBe("calibrate: working · 50 % · about 2 min left");
  });

  it("weighs stages the same without a pre-flight, and claims no time", () => {
    const live = after({ type: "stageChanged", run: run(stages) }, progress("calibrate", 1, 2));
    expect(overallProgress(live)).toEqual({ fraction: 0.5, remainingSeconds: null });
  });

  it("knows nothing before the first event", () => {
    expect(overallProgress(after())).toEqual({ fraction: null, remainingSeconds: null });
  });
});

it("says the verdict with its figures", () => {
  const evaluation = { comparison: { metric: "klToTeacher", before: 0.24974, after: 0.20225, verdict: "recovered" } };
  const live = after({
    type: "done",
    outcome: { runDirectory: "/runs/a", output: "o", report: null, evaluation } as never,
  });
  expect(outcomeLine(live, english)).toBe("a: recovered. KL to the teacher 0.250 before, 0.202 after (nats a token)");
});
