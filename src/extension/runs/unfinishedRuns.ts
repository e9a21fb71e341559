import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { comparisonFiles } from "../../protocol/compare";
import { isAlive, lockFile } from "../../protocol/lock";
import { runFiles } from "../../protocol/run";
import { cellFolder } from "./comparisonFolders";

export interface UnfinishedRun {
  /** Of a comparison: its folder. */
  runDirectory: string;
  name: string;
}

/**
 * Runs and comparisons that stopped before their end and that no process works on, read without the engine: nothing is started only to
 * ask. A run that failed or was cancelled is not among them, since somebody has been told.
 */
export function unfinishedRuns(runsFolder: string): UnfinishedRun[] {
  if (!existsSync(runsFolder)) return [];
  return readdirSync(runsFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => {
      const folder = path.join(runsFolder, name);
      const run = readRun(folder) ?? readComparison(folder);
      return run ? [run] : [];
    });
}

function readRun(runDirectory: string): UnfinishedRun | null {
  const run = readJson(path.join(runDirectory, runFiles.run));
  if (!run || !Array.isArray(run["stages"])) return null;
  const states = run["stages"].map((stage: unknown) => (isRecord(stage) ? stage["state"] : null));
  const interrupted = states.includes("running") || (states.includes("done") && states.includes("pending"));
  if (!interrupted || states.some((state) => state === "failed" || state === "cancelled")) return null;
  if (isLocked(path.join(runDirectory, runFiles.lock))) return null;
  return { runDirectory, name: nameIn(run, runDirectory) };
}

/** A comparison with cells left to work on, none of which was cancelled. */
function readComparison(directory: string): UnfinishedRun | null {
  const comparison = readJson(path.join(directory, comparisonFiles.comparison));
  if (!comparison || !Array.isArray(comparison["cells"])) return null;
  const cells = comparison["cells"].filter(isRecord);
  if (!cells.some(({ state }) => state === "pending") || isLocked(path.join(directory, runFiles.lock))) return null;
  const wasCancelled = cells.some(({ id }) => {
    const run = typeof id === "string" ? readJson(path.join(cellFolder(directory, id), runFiles.run)) : null;
    const stages: unknown = run?.["stages"];
    return Array.isArray(stages) && stages.some((stage) => isRecord(stage) && stage["state"] === "cancelled");
  });
  return wasCancelled ? null : { runDirectory: directory, name: nameIn(comparison, directory) };
}

function nameIn(file: Record<string, unknown>, directory: string): string {
  const name = file["name"];
  return typeof name === "string" && name !== "" ? name : path.basename(directory);
}

/** True while the process that the lock names may be at work, by the engine's own rule. */
export function isLocked(file: string): boolean {
  const lock = lockFile.safeParse(readJson(file));
  return lock.success && isAlive(lock.data);
}

function readJson(file: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    return isRecord(value) ? value : null;
  } catch {
    return null;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
