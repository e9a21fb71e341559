import { readdir } from "node:fs/promises";
import path from "node:path";
import type { ComparisonSummary } from "../../../protocol/compare";
import { readLabels } from "../folder/labels";
import { isHeld } from "../folder/lock";
import { readComparison } from "./comparisonFolder";

/** Comparisons directly below a folder, and the folder itself if it is one. Those that cannot be read are left out. */
export async function listComparisons(runsFolder: string): Promise<ComparisonSummary[]> {
  const entries = await readdir(runsFolder, { withFileTypes: true }).catch(() => []);
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(runsFolder, name));
  const summaries = await Promise.all([runsFolder, ...folders].map((folder) => summarise(folder).catch(() => null)));
  return summaries.flatMap((summary) => (summary ? [summary] : []));
}

async function summarise(directory: string): Promise<ComparisonSummary> {
  const { name, cells } = await readComparison(directory);
  const count = (state: (typeof cells)[number]["state"]): number => cells.filter((cell) => cell.state === state).length;
  const counts = { cells: cells.length, done: count("done"), failed: count("failed") };
  const labels = await readLabels(directory);
  return {
    directory,
    name: labels.name ?? name,
    tags: labels.tags,
    state: await stateOf(directory, counts),
    ...counts,
  };
}

/** "running" needs a living process behind it: what a killed one left behind is "interrupted". */
async function stateOf(
  directory: string,
  { cells, done, failed }: Pick<ComparisonSummary, "cells" | "done" | "failed">,
): Promise<ComparisonSummary["state"]> {
  if (await isHeld(directory)) return "running";
  if (done + failed < cells) return "interrupted";
  return failed > 0 ? "failed" : "done";
}
