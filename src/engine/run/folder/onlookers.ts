import { existsSync, readFileSync, writeFile } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import type { Progress, ReportProgress } from "../../../protocol/progress";
import { runFiles } from "../../../protocol/run";
import { writeFileAtomically } from "../../checkpoint/atomicFile";

/** Milliseconds between two looks for a request to stop, and at least between two writes of the progress. */
const lookEveryMs = 500;
const writeEveryMs = 1000;

/**
 * Works in a folder so that other processes can look on and ask it to stop: progress.json holds the latest progress while the work
 * lasts, and `cancel.json` in the folder aborts `signal`. The caller holds the folder's lock.
 */
export async function withOnlookers<T, H extends { signal: AbortSignal; report?: ReportProgress }>(
  directory: string,
  hooks: H,
  work: (hooks: H) => Promise<T>,
): Promise<T> {
  const request = path.join(directory, runFiles.cancel);
  // What an earlier process did not live to see, or to take away.
  for (const left of [request, path.join(directory, runFiles.progress)])
    if (existsSync(left)) await rm(left, { force: true });
  const asked = new AbortController();
  const timer = setInterval(() => {
    if (existsSync(request)) asked.abort();
  }, lookEveryMs);
  const shown = progressFile(path.join(directory, runFiles.progress));
  try {
    return await work({
      ...hooks,
      signal: AbortSignal.any([hooks.signal, asked.signal]),
      report: (progress: Progress) => {
        shown.write(progress);
        hooks.report?.(progress);
      },
    });
  } finally {
    clearInterval(timer);
    await shown.remove();
    if (asked.signal.aborted) await rm(request, { force: true });
  }
}

/** Asks the process that works in a folder to stop; what it has saved can be resumed. */
export async function requestCancel(directory: string): Promise<void> {
  await writeFileAtomically(
    path.join(directory, runFiles.cancel),
    `${JSON.stringify({ at: new Date().toISOString() })}\n`,
  );
}

/** The latest progress of the work in a folder; null where there is none, or half a file is being replaced. */
export function readProgress(directory: string): Progress | null {
  try {
    return JSON.parse(readFileSync(path.join(directory, runFiles.progress), "utf8")) as Progress;
  } catch {
    return null;
  }
}

/** Not flushed and not awaited: nothing is lost with it, and work never waits for it. */
function progressFile(file: string): { write: (progress: Progress) => void; remove: () => Promise<void> } {
  let last = -Infinity;
  let writing: Promise<void> | null = null;
  return {
    write: (progress) => {
      if (writing !== null || performance.now() - last < writeEveryMs) return;
      last = performance.now();
      writing = new Promise<void>((resolve) => {
        writeFile(file, JSON.stringify(progress), () => resolve());
      }).then(() => {
        writing = null;
      });
    },
    remove: async () => {
      if (last === -Infinity) return;
      await writing;
      await rm(file, { force: true }).catch(() => undefined);
    },
  };
}
