import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { z } from "zod";

/** lock.json: the process that works in a run folder. Only for code that runs in Node. */
export const lockFile = z.object({
  pid: z.int().min(1),
  /** Absent: this machine. */
  host: z.string().optional(),
  /** Start of the process in clock ticks since boot, where the system tells; a recycled pid has another one. */
  processStart: z.string().nullable().optional(),
  /** Tells this lock from every other. */
  nonce: z.string().optional(),
});
export type LockFile = z.infer<typeof lockFile>;

/** The lock that a text holds; null for one that is cut or damaged. */
export function parseLock(text: string): LockFile | null {
  try {
    const parsed = lockFile.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Whether the process of a lock may be at work. One of another machine counts as alive: nothing here can tell. */
export function isAlive({ pid, host, processStart: started }: LockFile): boolean {
  if (host !== undefined && host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to another user.
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  const now = processStart(pid);
  return started == null || now === null || started === now;
}

/** Field 22 of /proc/<pid>/stat; the process name before it may hold spaces and brackets. */
export function processStart(pid: number): string | null {
  if (process.platform !== "linux") return null;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
