import { describe, expect, it } from "vitest";
import {
  newLiveRun,
  nextLiveRun,
  overallProgress,
  type LiveRun,
  type LiveRunEvent,
} from "../../../src/extension/runs/liveRun";
import { endOf, outcomeLine, progressLine } from "../../../src/extension/runs/runMessages";
import { english } from "../../../src/protocol/translate";
import type { Progress } from "../../../src/protocol/progress";
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

const run = (stages: StageRecord[]): RunFile => ({ stages, preflight: null }) as unknown as RunFile;

const progress = (id: string, done: number, total: number, share?: Progress["run"]): LiveRunEvent => ({
  type: "progress",
  progress: {
    stage: id,
    message: "working",
    done,
    total,
    unit: "updates",
    ...(share === undefined ? {} : { run: share }),
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

  it("is what the engine counts, in every place the same", () => {
    const live = after(
      { type: "stageChanged", run: run(stages) },
      progress("calibrate", 30, 60, { share: 0.5, remainingSeconds: 120 }),
    );
    expect(overallProgress(live)).toEqual({ fraction: 0.5, remainingSeconds: 120 });
    expect(progressLine(live, english)).toBe("calibrate: working · 50 % · about 2 min left");
  });

  it("never falls: not between passes, not between stages, not where the engine counts anew", () => {
    const live = after(
      progress("profile", 40, 40, { share: 0.4 }),
      { type: "stageChanged", run: run(stages) },
      progress("calibrate", 0, 60, { share: 0.3 }),
    );
    expect(overallProgress(live)).toEqual({ fraction: 0.4, remainingSeconds: null });
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

describe("a comparison", () => {
  const cell = (number: number, remainingSeconds: number | null): LiveRunEvent => ({
    type: "cellBegun",
    cell: { id: `reap-0.${number}`, number, total: 4, remainingSeconds },
  });
  const begun = (...events: LiveRunEvent[]) => events.reduce(nextLiveRun, newLiveRun("/runs/grid", "grid"));

  const between: LiveRunEvent = { type: "stageChanged", run: run([stage("evaluate", "running")]) };
  const working = (share: number, remainingSeconds: number) => progress("calibrate", 1, 2, { share, remainingSeconds });

  it.each<[string, LiveRun, ReturnType<typeof at>]>([
    ["what the engine says of all cells together", begun(cell(2, 80), working(0.3, 70)), at(0.3, 70)],
    ["what it says when a cell begins, before the cell reports", begun(working(0.3, 70), cell(3, 60)), at(0.3, 60)],
    ["what it said last, between two stages of a cell", begun(working(0.3, 70), between), at(0.3, 70)],
    ["no time where nothing is known of it", begun(cell(2, null)), at(null, null)],
  ])("takes %s", (_, live, expected) => {
    expect(overallProgress(live)).toEqual(expected);
  });

  it("says which cell is worked on, and what it does", () => {
    const live = begun(cell(2, null), progress("calibrate", 1, 2, { share: 0.37 }));
    expect(progressLine(live, english)).toBe("cell 2 of 4 · calibrate: working · 37 %");
  });

  it("a new cell forgets the progress of the one before", () => {
    expect(begun(cell(1, null), progress("evaluate", 1, 2), cell(2, null)).progress).toBeNull();
  });

  const measured = (id: string, before: number, after: number | null) => ({
    id,
    state: "done",
    error: null,
    before: { klToTeacher: { mean: before } },
    after: after === null ? null : { klToTeacher: { mean: after } },
  });
  const failed = { id: "mobe-0.5", state: "failed", error: { code: "arguments/invalid", message: "no option magic" } };
  it.each<[string, object[], string]>([
    [
      "the nearest to the teacher",
      [measured("reap-0.5", 0.3, 0.2), measured("svd-0.5", 0.1, null)],
      "grid: 2 cells compared. Nearest to the teacher: svd-0.5, KL 0.100 nats a token",
    ],
    [
      "what failed",
      [measured("reap-0.5", 0.3, 0.2), failed],
      "grid: 1 of 2 cells failed, the first is mobe-0.5: no option magic (arguments/invalid)",
    ],
  ])("ends with %s", (_, cells, line) => {
    const live = begun(cell(1, null), { type: "compared", comparison: { cells } as never });
    expect(live).toMatchObject({ phase: "done", cell: null });
    expect(outcomeLine(live, english)).toBe(line);
  });
});

function at(fraction: number | null, remainingSeconds: number | null) {
  return { fraction, remainingSeconds };
}

describe("the end of a run", () => {
  const end = (more: Partial<LiveRun>) => {
    const { isWarning, offers } = endOf({ ...newLiveRun("/runs/a", "a"), ...more }, english);
    return [isWarning, ...offers.map(({ label }) => label)];
  };
  const outcome = (verdict: string | null) =>
    ({
      evaluation: { comparison: verdict && { verdict, metric: "klToTeacher", before: 0.2, after: 0.3 } },
    }) as unknown as NonNullable<LiveRun["outcome"]>;
  const cells = (...states: string[]) =>
    ({
      cells: states.map((state) => ({ id: state, state, error: null, before: null, after: null })),
    }) as unknown as NonNullable<LiveRun["comparison"]>;
  it.each<[string, Partial<LiveRun>, unknown[]]>([
    ["a profile", {}, [false, "Open Routing", "Open Report"]],
    ["recovered", { outcome: outcome("recovered") }, [false, "Open Report", "Open Divergence"]],
    ["worse, which warns", { outcome: outcome("worse") }, [true, "Open Report", "Open Divergence"]],
    ["compressed and measured", { outcome: outcome(null) }, [false, "Open Report", "Open Divergence"]],
    ["a comparison", { comparison: cells("done", "done") }, [false, "Open Trade-off", "Open Report"]],
    [
      "one with a failed cell",
      { comparison: cells("done", "failed") },
      [true, "Open Trade-off", "Open Report", "Try Failed Cells Again"],
    ],
  ])("%s", (_, more, expected) => {
    expect(end(more)).toEqual(expected);
  });
});
