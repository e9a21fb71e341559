import path from "node:path";
import { open, rename, rm } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { quote } from "./quote";

/**
 * Writes a file so that its name always stands for a complete one: a temporary name in the same folder, flushed to disk,
 * then renamed over the old file. `data` may come in parts, which are written one after the other.
 *
 * @throws RerouteError output/write-failed; the temporary file is removed then
 */
export async function writeFileAtomically(
  filePath: string,
  data: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const temporary = path.join(path.dirname(filePath), partialName(path.basename(filePath)));
  try {
    await writeNewFile(temporary, data);
    await rename(temporary, filePath);
    await syncFolder(path.dirname(filePath));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(error, filePath);
  }
}

/** Writes and flushes a file under its own name, replacing what is there. */
export async function writeNewFile(
  filePath: string,
  data: string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const file = await open(filePath, "w");
  try {
    if (typeof data === "string") await writeAll(file, Buffer.from(data));
    else if (data instanceof Uint8Array) await writeAll(file, data);
    else for await (const part of data) await writeAll(file, part);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes renames in a folder durable. Windows cannot open folders and needs no such call. */
export async function syncFolder(directory: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Appends a line to a log that may have been cut by a crash: a last line without its end is ended first, so that only it
 * is lost.
 *
 * @throws RerouteError output/write-failed
 */
export async function appendLine(filePath: string, line: string): Promise<void> {
  try {
    const file = await open(filePath, "a+");
    try {
      const { size } = await file.stat();
      const last = Buffer.alloc(1);
      if (size > 0) await file.read(last, 0, 1, size - 1);
      const torn = size > 0 && last[0] !== 0x0a;
      await writeAll(file, Buffer.from(`${torn ? "\n" : ""}${line}\n`));
    } finally {
      await file.close();
    }
  } catch (error) {
    throw writeError(error, filePath);
  }
}

/** An error of the operating system while writing, as ours, with advice. */
export function writeError(error: unknown, filePath: string): RerouteError {
  if (error instanceof RerouteError) return error;
  const { code = "", message = String(error) } = error as Partial<NodeJS.ErrnoException>;
  const text = writeProblems[code] ?? message;
  return new RerouteError("output/write-failed", `cannot write ${quote(filePath)}: ${text}`, { cause: error });
}

const writeProblems: Record<string, string | undefined> = {
  ENOSPC: "the disk is full; free some space or choose another folder, then run again",
  EDQUOT: "your disk quota is used up; free some space or choose another folder, then run again",
  EFBIG: "the file would be larger than the file system or a limit (ulimit -f) allows; choose another folder",
  EROFS: "the file system is read-only; choose another folder",
  EACCES: "permission denied; choose a folder that you may write to",
  EPERM: "permission denied; choose a folder that you may write to",
  ENOENT: "its folder does not exist",
  ENOTDIR: "a part of its path is not a folder; choose another folder",
  EISDIR: "a folder has this name",
  EIO: "the disk reported a write error; check the disk",
  EMFILE: "too many open files; raise the limit (ulimit -n)",
};

type WritableFile = Awaited<ReturnType<typeof open>>;

/**
 * Writes all bytes, from `position` on where one is given. A write may take fewer bytes than given: on Linux at most
 * 2,147,479,552.
 */
export async function writeAll(file: WritableFile, bytes: Uint8Array, position?: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const at = position === undefined ? null : position + done;
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.byteLength - done, 2 ** 30), at);
    done += bytesWritten;
  }
}

/** Lies in an output folder while it is being written and names the run that writes it; removed last. */
export const incompleteMarker = ".reroute-incomplete";

/** The name a file has until it is complete. */
export function partialName(name: string): string {
  return `.${name}.reroute-partial`;
}

export function isPartialName(name: string): boolean {
  return name.startsWith(".") && name.endsWith(".reroute-partial");
}
