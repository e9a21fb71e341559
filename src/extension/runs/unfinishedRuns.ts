import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { runFiles } from "../../protocol/run";

export interface UnfinishedRun {
  runDirectory: string;
  name: string;
}

/**
 * Runs that stopped before their end and that no process works on, read without the engine: nothing is started only to
 * ask. A run that failed or was cancelled is not among them, since somebody has been told.
 */
export function unfinishedRuns(runsFolder: string): UnfinishedRun[] {
  if (!existsSync(runsFolder)) return [];
  return readdirSync(runsFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => {
      const run = readRun(path.join(runsFolder, name));
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
  const name = run["name"];
  return { runDirectory, name: typeof name === "string" && name !== "" ? name : path.basename(runDirectory) };
}

/** True while the process that the lock names is alive; a lock that outlived its process holds nobody back. */
function isLocked(file: string): boolean {
  const pid = readJson(file)?.["pid"];
  if (typeof pid !== "number") return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
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
