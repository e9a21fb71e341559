import { randomUUID } from "node:crypto";
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { isAlive, parseLock, processStart, type LockFile } from "../../../protocol/lock";
import { runFiles } from "../../../protocol/run";
import { contentKey } from "../../checkpoint/contentKey";
import { quote } from "../../checkpoint/quote";
import { writeError } from "../../checkpoint/atomicFile";

/** Releases the lock. */
export type ReleaseLock = () => Promise<void>;

/** Attempts at a lock that others are taking or releasing, and the milliseconds between two. */
const attempts = 100;
const pauseMs = 20;

/**
 * Takes a run folder for this process. A lock that a dead process of this machine left behind is taken over.
 * @throws RerouteError `run/locked` naming who holds it
 */
export async function lockRunFolder(runDirectory: string): Promise<ReleaseLock> {
  const file = path.join(runDirectory, runFiles.lock);
  try {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const result = await take(file);
      if (result === "taken") return () => rm(file, { force: true });
      if (result !== "moving") throw lockedBy(result, runDirectory);
      await pause();
    }
  } catch (error) {
    throw error instanceof RerouteError ? error : writeError(error, file);
  }
  throw new RerouteError(
    "run/locked",
    `The run folder ${quote(runDirectory)} is being taken by other processes; try again`,
  );
}

/** Whether a living process works in a run folder. */
export async function isHeld(runDirectory: string): Promise<boolean> {
  const text = await readLock(path.join(runDirectory, runFiles.lock));
  const holder = text === null ? null : parseLock(text);
  return holder !== null && isAlive(holder);
}

/** Files of locks that were being taken when a process was killed. */
export const lockLeftovers = /^lock\.json\.([0-9a-f]{16}|claim-.*|stale-\d+)$/;

/**
 * One attempt: "taken", the living process that holds the lock, or "moving" where others have just changed it.
 *
 * A stale lock may only be replaced by the holder of a second lock, which is named after the stale one's content. Its owner
 * is dead, and whoever else wants to replace it needs the same second lock; so between looking whether it still is the stale
 * one and replacing it nobody changes it. The second lock is taken by the same rule.
 */
async function take(file: string): Promise<"taken" | "moving" | LockFile> {
  if (await createLock(file)) return "taken";
  const text = await readLock(file);
  if (text === null) return "moving";
  const holder = parseLock(text);
  if (holder && isAlive(holder)) return holder;
  const second = path.join(
    path.dirname(file),
    `${runFiles.lock}.${contentKey([path.basename(file), text]).slice(0, 16)}`,
  );
  if ((await take(second)) !== "taken") return "moving";
  try {
    return (await readLock(file)) === text && (await withClaim(file, (claim) => rename(claim, file)))
      ? "taken"
      : "moving";
  } finally {
    await rm(second, { force: true });
  }
}

/** False where there is one. A link to a file that is already written: nobody ever sees half a lock. */
async function createLock(file: string): Promise<boolean> {
  return withClaim(file, async (claim, text) => {
    try {
      await link(claim, file);
    } catch (error) {
      // File systems without links: those who read it meanwhile wait for its end.
      if (!["EPERM", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"].includes(codeOf(error))) throw error;
      await writeFile(file, text, { flag: "wx" });
    }
  });
}

/** @returns false where `use` found a lock, or its claim removed by a process that took the folder meanwhile */
async function withClaim(file: string, use: (claim: string, text: string) => Promise<void>): Promise<boolean> {
  const nonce = randomUUID();
  const claim = path.join(path.dirname(file), `${runFiles.lock}.claim-${process.pid}-${nonce}`);
  const lock: LockFile = { pid: process.pid, host: hostname(), processStart: processStart(process.pid), nonce };
  const text = JSON.stringify(lock);
  await writeFile(claim, text, { flag: "wx" });
  try {
    await use(claim, text);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST" || codeOf(error) === "ENOENT") return false;
    throw error;
  } finally {
    await rm(claim, { force: true });
  }
}

/** Null where there is none. One that its writer has not finished is waited for; a dead writer's stays as it is. */
async function readLock(file: string): Promise<string | null> {
  let text = "";
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      if (codeOf(error) === "ENOENT") return null;
      throw error;
    }
    if (parseLock(text) !== null) break;
    await pause();
  }
  return text;
}

function lockedBy({ pid, host }: LockFile, runDirectory: string): RerouteError {
  const isHere = host === undefined || host === hostname();
  const where = isHere ? `process ${pid}` : `process ${pid} on ${host}`;
  const advice = isHere
    ? "wait for it or cancel it"
    : `if it is gone, delete ${quote(path.join(runDirectory, runFiles.lock))}`;
  return new RerouteError("run/locked", `The run folder ${quote(runDirectory)} is in use by ${where}; ${advice}`);
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pauseMs));
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "";
}
