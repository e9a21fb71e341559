import { existsSync, readdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import { comparisonFiles } from "../../protocol/compare";
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

/**
 * True while the process that the lock names may be at work. As the engine decides it: a process of another machine
 * counts as alive, since nothing here can tell; a recycled process id has another start time. The engine's own rule is
 * not imported, because the extension loads nothing of the engine.
 */
function isLocked(file: string): boolean {
  const lock = readJson(file);
  const pid = lock?.["pid"];
  if (!lock || typeof pid !== "number" || !Number.isInteger(pid) || pid < 1) return false;
  if (typeof lock["host"] === "string" && lock["host"] !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to another user.
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const started = lock["processStart"];
  const now = processStart(pid);
  return typeof started !== "string" || now === null || started === now;
}

/** Start of a process in clock ticks since boot: field 22 of /proc/<pid>/stat, behind a name that may hold anything. */
function processStart(pid: number): string | null {
  if (process.platform !== "linux") return null;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
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
