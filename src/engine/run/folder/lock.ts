import { open, readFile, rename, rm } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import { runFiles } from "../../../protocol/run";
import { quote } from "../../checkpoint/quote";
import { writeError } from "../../checkpoint/atomicFile";

const lockFile = z.object({
  pid: z.int().min(1),
  host: z.string(),
  /** Start of the process in clock ticks since boot, where the system tells; a recycled pid has another one. */
  processStart: z.string().nullable(),
});
type LockFile = z.infer<typeof lockFile>;

/** Gives the run folder free again. */
export type ReleaseLock = () => Promise<void>;

/**
 * Takes a run folder for this process. A lock that a dead process of this machine left behind is taken over.
 * @throws RerouteError `run/locked` naming who holds it
 */
export async function lockRunFolder(runDirectory: string): Promise<ReleaseLock> {
  const file = path.join(runDirectory, runFiles.lock);
  for (let attempt = 0; attempt < 3; attempt++) {
    if (await createLock(file)) return () => rm(file, { force: true });
    const holder = await readLock(file);
    if (holder && isAlive(holder)) throw lockedBy(holder, runDirectory);
    // The stale lock is moved away under a name of our own first, so that of two processes only one removes it.
    const stale = `${file}.stale-${process.pid}`;
    try {
      await rename(file, stale);
      await rm(stale, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw writeError(error, file);
    }
  }
  throw new RerouteError(
    "run/locked",
    `The run folder ${quote(runDirectory)} is being taken by other processes; try again`,
  );
}

/** Whether a living process works in a run folder. */
export async function isHeld(runDirectory: string): Promise<boolean> {
  const holder = await readLock(path.join(runDirectory, runFiles.lock));
  return holder !== null && isAlive(holder);
}

async function createLock(file: string): Promise<boolean> {
  const lock: LockFile = { pid: process.pid, host: hostname(), processStart: processStart(process.pid) };
  try {
    const handle = await open(file, "wx");
    try {
      await handle.writeFile(JSON.stringify(lock));
    } finally {
      await handle.close();
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw writeError(error, file);
  }
}

/** Null for a lock that its writer did not finish: the process died, or is about to write it. */
async function readLock(file: string): Promise<LockFile | null> {
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      const parsed = lockFile.safeParse(JSON.parse(await readFile(file, "utf8")));
      if (parsed.success) return parsed.data;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    }
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  return null;
}

/** A process of another machine counts as alive: nothing here can tell. */
function isAlive({ pid, host, processStart: started }: LockFile): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const now = processStart(pid);
  return started === null || now === null || started === now;
}

function lockedBy({ pid, host }: LockFile, runDirectory: string): RerouteError {
  const where = host === hostname() ? `process ${pid}` : `process ${pid} on ${host}`;
  const advice =
    host === hostname()
      ? "wait for it or cancel it"
      : `if it is gone, delete ${quote(path.join(runDirectory, runFiles.lock))}`;
  return new RerouteError("run/locked", `The run folder ${quote(runDirectory)} is in use by ${where}; ${advice}`);
}

/** Field 22 of /proc/<pid>/stat; the process name before it may hold spaces and brackets. */
function processStart(pid: number): string | null {
  if (process.platform !== "linux") return null;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
