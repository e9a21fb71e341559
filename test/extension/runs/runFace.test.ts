import { expect, it } from "vitest";
import { runDescription, runFace, runLabel } from "../../../src/extension/runs/runFace";
import { commandLine, nextFree, sameElsewhere } from "../../../src/extension/runs/runAgain";
import { filtered } from "../../../src/extension/runs/runNodes";
import { milestonesOf } from "../../../src/extension/runs/milestones";
import { english } from "../../../src/protocol/translate";
import type { ComparisonSummary } from "../../../src/protocol/compare";
import type { RunSummary } from "../../../src/protocol/panels";
import { verdicts } from "../../../src/protocol/verdict";

const run = (more: Partial<RunSummary>) =>
  ({
    id: "a",
    name: "a",
    directory: "/r/a",
    tags: [],
    method: "reap",
    teacher: "/t",
    createdAt: "2026-11-30T10:00:00Z",
    state: "done",
    verdict: null,
    klBefore: null,
    klAfter: null,
    ...more,
  }) as RunSummary;

it("every verdict and every other state looks different from success, and from none", () => {
  const success = runFace(run({ verdict: "recovered" }));
  const others = [
    ...verdicts.filter((verdict) => verdict !== "recovered").map((verdict) => run({ verdict })),
    run({ verdict: "recovered on text that was trained on" }),
    ...(["pending", "running", "failed", "cancelled", "interrupted"] as const).map((state) => run({ state })),
    run({}),
  ].map(runFace);
  for (const face of others) expect(face).not.toEqual(success);
  expect(runFace(run({ verdict: "worse" })).colour).toBe("list.errorForeground");
});

it.each([
  [run({}), "done · 30 Nov"],
  [run({ verdict: "no gain", klBefore: 0.25, klAfter: 0.2512 }), "no gain · KL 0.250 → 0.251 · 30 Nov"],
  [run({ state: "failed", tags: ["paper", "lr"] }), "failed · 30 Nov · #paper · #lr"],
])("description %#", (summary, expected) => {
  expect(runDescription(summary, "30 Nov")).toBe(expected);
});

it("a screen reader hears name, state, verdict, tags and date", () => {
  const summary = run({ name: "first", verdict: "worse", klBefore: 0.1, klAfter: 0.2, tags: ["x"] });
  expect(runLabel(summary, "30 November", english)).toBe(
    "first, done, verdict: worse, KL to the teacher 0.100 before, 0.200 after, tags: x, created 30 November",
  );
});

it.each([
  ["/o", [], "/o"],
  ["/o", ["/o"], "/o-2"],
  ["/o-2", ["/o", "/o-2", "/o-3"], "/o-4"],
])("the next free folder after %s with %j is %s", (folder, there, expected) => {
  expect(nextFree(folder, (one) => there.includes(one))).toBe(expected);
});

it("an output inside the run's own folder goes elsewhere", () => {
  expect(sameElsewhere("/r/a/checkpoint", "/r/a", "/w/new", () => true)).toBe("/w/new");
  expect(sameElsewhere("/w/out", "/r/a", "/w/new", (one) => one === "/w/out")).toBe("/w/out-2");
});

it.each<[NodeJS.Platform, string | null, string]>([
  ["linux", null, "node /x/cli.js run '/r/it'\\''s mine'"],
  ["linux", "/o 2", "node /x/cli.js run '/r/it'\\''s mine' --run '/r/it'\\''s mine-2' --output '/o 2'"],
  ["win32", null, 'node /x/cli.js run "/r/it\'s mine"'],
])("command line on %s, output %s", (platform, output, expected) => {
  const exists = (folder: string) => folder === "/r/it's mine";
  expect(commandLine("/x/cli.js", "/r/it's mine", output, exists, platform)).toBe(expected);
});

it("a filter keeps runs, and comparisons by their cells or their own name", () => {
  const comparison = (name: string, tags: string[] = []) =>
    ({ directory: `/r/${name}`, name, tags, state: "done" }) as unknown as ComparisonSummary;
  const cell = (grid: string, method: string) =>
    run({ directory: `/r/${grid}/cells/${method}`, name: `${grid}: ${method}`, id: method, method });
  const listed = {
    runs: [run({}), cell("g", "svd"), cell("g", "reap"), cell("h", "svd")],
    comparisons: [comparison("g"), comparison("h", ["paper"])],
  };
  const shown = (filter: string) => {
    const { runs, comparisons } = filtered(listed, filter);
    return [...runs, ...comparisons].map(({ directory }) => directory);
  };
  expect(shown("")).toHaveLength(6);
  expect(shown("svd")).toEqual(["/r/g/cells/svd", "/r/h/cells/svd", "/r/g", "/r/h"]);
  expect(shown("#paper")).toEqual(["/r/h/cells/svd", "/r/h"]);
  expect(shown("nothing")).toEqual([]);
});

it("the walkthrough's steps are completed by finished stages alone", () => {
  const stages = (...done: string[]) => ({
    stages: ["profile", "compress", "calibrate"].map((id) => ({
      id,
      state: done.includes(id) ? "done" : "cancelled",
      seconds: 1,
    })),
  });
  expect(milestonesOf([])).toEqual([]);
  expect(milestonesOf([stages()])).toEqual([]);
  expect(milestonesOf([stages("profile"), stages("profile", "compress")])).toEqual(["hasProfile", "hasCompressed"]);
});
