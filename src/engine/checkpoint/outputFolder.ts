import path from "node:path";
import { lstat, mkdir, readdir, readFile, rm, rmdir } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { syncFolder, writeError, writeNewFile, incompleteMarker, isPartialName } from "./atomicFile";
import { quote } from "./quote";

/** An output folder that is being filled; `discard` takes back everything that was written. */
export interface OutputFolder {
  discard(): Promise<void>;
}

/**
 * Takes a folder for writing. It may be missing or empty, or hold nothing but what an earlier attempt of the same run left
 * behind (its marker names `runId`): that is removed. A marker then says that the folder is unfinished, until
 * `completeOutput`.
 *
 * @param isOurs whether a path below the folder is one that this run writes, with "/" at its end where it is a folder's;
 *   anything else in the folder is somebody's
 * @throws RerouteError output/not-empty, output/write-failed
 */
export async function claimOutputFolder(
  directory: string,
  runId: string,
  isOurs: (name: string) => boolean,
): Promise<OutputFolder> {
  const marker = path.join(directory, incompleteMarker);
  let firstMade: string | undefined;
  let claimed = false;
  const discard = async () => {
    const entries = await listTree(directory, isOurs);
    await removeTree(
      directory,
      entries.filter((name) => mayRemove(name, isOurs)),
    );
    await rm(marker, { force: true });
    await removeMadeFolders(directory, firstMade);
  };
  try {
    firstMade = await mkdir(directory, { recursive: true });
    await clearLeftovers(directory, runId, isOurs);
    claimed = true;
    await writeNewFile(marker, markerText(runId));
    return { discard };
  } catch (error) {
    if (claimed) await discard().catch(() => undefined);
    throw writeError(error, directory);
  }
}

/**
 * Declares an output finished by removing its marker. Does nothing where there is none, so that a run killed between the
 * two may call it again.
 */
export async function completeOutput(directory: string): Promise<void> {
  try {
    await syncFolder(directory);
    await rm(path.join(directory, incompleteMarker), { force: true });
    await syncFolder(directory);
  } catch (error) {
    throw writeError(error, directory);
  }
}

/** True where a run of this id left its output unfinished. */
export async function isUnfinishedOutputOf(directory: string, runId: string): Promise<boolean> {
  return (await readMarker(directory)) === markerText(runId);
}

async function clearLeftovers(directory: string, runId: string, isOurs: (name: string) => boolean): Promise<void> {
  const names = await readdir(directory);
  if (names.length === 0) return;
  const refuse = (why: string): never => {
    throw new RerouteError("output/not-empty", `${quote(directory)} is not empty: ${why}; choose another folder`);
  };
  const marker = await readMarker(directory);
  // A marker is the first file written, so one that a kill left empty or cut is alone.
  const cut = names.length === 1 && marker !== undefined && markerText(runId).startsWith(marker);
  if (marker !== markerText(runId) && !cut) {
    refuse(
      marker === undefined
        ? `it holds ${names.slice(0, 3).map(quote).join(", ")}`
        : "another run has not finished writing it",
    );
  }
  const entries = (await listTree(directory, isOurs)).filter((name) => name !== incompleteMarker);
  for (const name of entries) {
    const entry = await lstat(path.join(directory, name));
    const isExpected = name.endsWith("/") ? entry.isDirectory() : entry.isFile();
    if (!isExpected || !mayRemove(name, isOurs)) {
      refuse(`beside an unfinished output it holds ${quote(name.replace(/\/$/, ""))}`);
    }
  }
  await removeTree(directory, entries);
}

/** Paths below a folder, folders with "/" at the end and before what is in them; only our own folders are entered. */
async function listTree(directory: string, isOurs: (name: string) => boolean, below = ""): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(path.join(directory, below), { withFileTypes: true })) {
    const name = `${below}${entry.name}${entry.isDirectory() ? "/" : ""}`;
    paths.push(name);
    if (entry.isDirectory() && isOurs(name)) paths.push(...(await listTree(directory, isOurs, name)));
  }
  return paths;
}

/** Removes files, and folders that are empty then. */
async function removeTree(directory: string, paths: readonly string[]): Promise<void> {
  for (const name of [...paths].reverse()) {
    if (!name.endsWith("/")) await rm(path.join(directory, name), { force: true });
    else await rmdir(path.join(directory, name)).catch(() => undefined);
  }
}

/** Removes the folders that `mkdir` made, from the innermost outwards; `firstMade` is the outermost. */
async function removeMadeFolders(directory: string, firstMade: string | undefined): Promise<void> {
  if (firstMade === undefined) return;
  for (let folder = path.resolve(directory); ; folder = path.dirname(folder)) {
    await rmdir(folder);
    if (folder === path.resolve(firstMade)) return;
  }
}

function mayRemove(name: string, isOurs: (name: string) => boolean): boolean {
  return isOurs(name) || isPartialName(path.posix.basename(name));
}

function markerText(runId: string): string {
  return `${JSON.stringify({ run: runId })}\n`;
}

async function readMarker(directory: string): Promise<string | undefined> {
  const file = path.join(directory, incompleteMarker);
  try {
    const { size } = await lstat(file);
    return size > 10_000 ? "" : await readFile(file, "utf8");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
