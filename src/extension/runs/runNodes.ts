import type { ComparisonSummary } from "../../protocol/compare";
import type { EngineResult } from "../../protocol/engine";
import { isFound } from "../../protocol/labels";
import type { RunSummary } from "../../protocol/panels";
import { comparisonOf } from "./comparisonFolders";

/** A row of the Runs tree. */
export type RunNode =
  | { kind: "run"; summary: RunSummary; name: string }
  /** `runs`: its cells so far. `runDirectory` is what commands look for in their argument. */
  | { kind: "comparison"; runDirectory: string; summary: ComparisonSummary; runs: RunSummary[] }
  | { kind: "stage"; stage: RunSummary["stages"][number] }
  | { kind: "message"; message: string };

/** The runs that somebody looks for; a comparison stays where one of its cells does, or its own name and tags are what is looked for. */
export function filtered({ runs, comparisons }: EngineResult<"run/list">, filter: string): EngineResult<"run/list"> {
  if (filter === "") return { runs, comparisons };
  const unknown = { method: null, verdict: null, teacher: "", createdAt: "" };
  const named = comparisons.filter(({ directory, name, state, tags }) =>
    isFound({ ...unknown, id: directory, name, state, tags }, filter),
  );
  const isBelow = (run: RunSummary) => named.some(({ directory }) => directory === comparisonOf(run.directory));
  const found = runs.filter((run) => isBelow(run) || isFound(run, filter));
  const hasCell = ({ directory }: ComparisonSummary) => found.some((run) => comparisonOf(run.directory) === directory);
  return { runs: found, comparisons: comparisons.filter((one) => named.includes(one) || hasCell(one)) };
}

/** Comparisons stand where their newest cell would; one that has no cell yet comes first. */
export function topLevel({ runs, comparisons }: EngineResult<"run/list">): RunNode[] {
  const byFolder = new Map(comparisons.map((summary) => [summary.directory, summary]));
  const cells = new Map<string, RunSummary[]>(comparisons.map(({ directory }) => [directory, []]));
  for (const run of runs) cells.get(comparisonOf(run.directory) ?? "")?.push(run);
  const comparison = (summary: ComparisonSummary): RunNode => ({
    kind: "comparison",
    runDirectory: summary.directory,
    summary,
    runs: cells.get(summary.directory) ?? [],
  });
  const nodes = comparisons.filter(({ directory }) => cells.get(directory)?.length === 0).map(comparison);
  for (const run of runs) {
    const of = byFolder.get(comparisonOf(run.directory) ?? "");
    if (!of) nodes.push({ kind: "run", summary: run, name: run.name });
    else if (cells.get(of.directory)?.[0] === run) nodes.push(comparison(of));
  }
  return nodes;
}

/** The cells of a comparison, without its name in front of theirs. */
export function cellsBelow({ summary, runs }: Extract<RunNode, { kind: "comparison" }>): RunNode[] {
  const prefix = `${summary.name}: `;
  return runs.map((run) => ({
    kind: "run",
    summary: run,
    name: run.name.startsWith(prefix) ? run.name.slice(prefix.length) : run.name,
  }));
}
