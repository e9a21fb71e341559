import path from "node:path";
import type { RunSummary } from "../../protocol/panels";

type Named = Pick<RunSummary, "name" | "method" | "createdAt" | "directory">;

/** Runs whose names differ: those that are called the same get their method behind it, or the time they began, or their folder. */
export function tellApart<T extends Named>(runs: readonly T[]): T[] {
  const ways: ((run: Named) => string)[] = [
    ({ name }) => name,
    ({ name, method }) => [name, method].filter(Boolean).join(" · "),
    ({ name, createdAt }) => `${name} · ${createdAt.slice(0, 16).replace("T", " ")}`,
    ({ name, method, createdAt }) =>
      [name, method, createdAt.slice(0, 16).replace("T", " ")].filter(Boolean).join(" · "),
    ({ name, directory }) => `${name} · ${path.basename(directory)}`,
  ];
  const same = groupsOf(runs);
  return runs.map((run) => {
    const alike = same.get(run.name)!;
    const way = ways.find((label) => new Set(alike.map(label)).size === alike.length) ?? ways.at(-1)!;
    return { ...run, name: way(run) };
  });
}

function groupsOf<T extends Named>(runs: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const run of runs) groups.set(run.name, [...(groups.get(run.name) ?? []), run]);
  return groups;
}
