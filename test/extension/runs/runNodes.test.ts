import { expect, it } from "vitest";
import { cellFolder, comparisonOf } from "../../../src/extension/runs/comparisonFolders";
import { cellsBelow, topLevel, type RunNode } from "../../../src/extension/runs/runNodes";
import type { ComparisonSummary } from "../../../src/protocol/compare";
import type { RunSummary } from "../../../src/protocol/panels";

const run = (directory: string) => ({ directory }) as RunSummary;
const comparison = (directory: string) => ({ directory }) as ComparisonSummary;
const shown = (node: RunNode): string => {
  if (node.kind === "run") return node.summary.directory;
  return node.kind === "comparison" ? `${node.runDirectory}[${node.runs.map((r) => r.directory).join(" ")}]` : "";
};

it.each<[string, string[], string[], string[]]>([
  ["runs as they come", ["/r/b", "/r/a"], [], ["/r/b", "/r/a"]],
  [
    "a comparison where its newest cell stands, its cells below it",
    ["/r/c", "/r/grid/cells/svd-0.5", "/r/b", "/r/grid/cells/reap-0.5"],
    ["/r/grid"],
    ["/r/c", "/r/grid[/r/grid/cells/svd-0.5 /r/grid/cells/reap-0.5]", "/r/b"],
  ],
  ["a comparison that has just begun first", ["/r/a"], ["/r/grid"], ["/r/grid[]", "/r/a"]],
  ["cells whose comparison cannot be read as runs", ["/r/grid/cells/x"], [], ["/r/grid/cells/x"]],
])("%s", (_, runs, comparisons, expected) => {
  const nodes = topLevel({ runs: runs.map(run), comparisons: comparisons.map(comparison) });
  expect(nodes.map(shown)).toEqual(expected);
});

it("a cell's folder leads to its comparison, a run's to none", () => {
  expect(comparisonOf(cellFolder("/r/grid", "reap-0.5"))).toBe("/r/grid");
  expect(comparisonOf("/r/a")).toBeNull();
});

it("cells below their comparison do not repeat its name", () => {
  const summary = { ...comparison("/r/grid"), name: "grid" };
  const runs = ["grid: reap at 0.5", "renamed"].map((name) => ({ ...run(cellFolder("/r/grid", name)), name }));
  const nodes = cellsBelow({ kind: "comparison", runDirectory: "/r/grid", summary, runs });
  expect(nodes.map((node) => (node.kind === "run" ? node.name : ""))).toEqual(["reap at 0.5", "renamed"]);
});
