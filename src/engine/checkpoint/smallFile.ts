import { open, stat, type FileHandle } from "node:fs/promises";
import { RerouteError, type ErrorCode } from "../../protocol/errors";
import { quote } from "./quote";

/**
 * A whole file of at most `limit` bytes. What is not a regular file (a pipe would wait for ever) is refused.
 *
 * @throws RerouteError checkpoint/not-found, /limit, /truncated, /lfs-pointer
 */
export async function readSmallFile(path: string, limit: number): Promise<Uint8Array> {
  const file = await openRegularFile(path);
  try {
    const { size } = await file.stat();
    if (size > limit) {
      throw new RerouteError("checkpoint/limit", `${quote(path)} has ${size} bytes, the limit is ${limit}`);
    }
    const bytes = await readRange(file, path, 0, size);
    refusePointer(bytes, path);
    return bytes;
  } catch (error) {
    throw readError(error, path);
  } finally {
    await file.close();
  }
}

/** Pointers have about 130 bytes; the specification allows 1024. */
const maxPointerBytes = 1024;
const pointerStart = "version https://git-lfs.github.com/spec/";

/**
 * Refuses what lies in the place of a file: what `git clone` leaves where Git LFS is not installed (docs/spec.md of
 * git-lfs/git-lfs), and a symbolic link that a copy made a text of, as happens to download caches.
 *
 * @param start the file's first bytes
 * @throws RerouteError checkpoint/lfs-pointer, /not-found
 */
export function refusePointer(start: Uint8Array, path: string): void {
  const text = Buffer.from(start.subarray(0, maxPointerBytes)).toString("latin1");
  if (/^\.\.\/(?:[\w.-]+\/)*[\w.-]+\s*$/.test(text)) {
    throw new RerouteError(
      "checkpoint/not-found",
      `${quote(path)} holds nothing but ${quote(text.trim())}: it was a symbolic link, and a copy made a text of it; copy the folder with its links, or download it again`,
    );
  }
  if (!text.startsWith(pointerStart)) return;
  const size = /\nsize (\d{1,16})(?:\n|$)/.exec(text)?.[1];
  throw new RerouteError(
    "checkpoint/lfs-pointer",
    `${quote(path)} is a Git LFS pointer: the file${size === undefined ? "" : ` of ${size} bytes`} that it stands for was not downloaded; run "git lfs pull" in its folder, or download the file again`,
  );
}

/** As refusePointer, of an open file. */
export async function refusePointerFile(file: FileHandle, path: string): Promise<void> {
  const start = Buffer.alloc(maxPointerBytes);
  const { bytesRead } = await file.read(start, 0, maxPointerBytes, 0);
  refusePointer(start.subarray(0, bytesRead), path);
}

/** Opens a regular file for reading; the caller closes it. */
export async function openRegularFile(path: string): Promise<FileHandle> {
  try {
    if (!(await stat(path)).isFile()) {
      throw new RerouteError("checkpoint/not-found", `${quote(path)} is not a regular file`);
    }
    return await open(path, "r");
  } catch (error) {
    throw readError(error, path);
  }
}

/**
 * On Linux one read returns at most 2,147,479,552 bytes, and some file systems far fewer: a single read is never trusted
 * to fill its buffer.
 */
const maxBytesPerRead = 2 ** 30;

/** Fills `out` from `position` on. @throws RerouteError checkpoint/truncated where the file ends before that */
export async function readInto(file: FileHandle, path: string, position: number, out: Uint8Array): Promise<void> {
  for (let done = 0; done < out.byteLength;) {
    const wanted = Math.min(out.byteLength - done, maxBytesPerRead);
    const { bytesRead } = await file.read(out, done, wanted, position + done);
    if (bytesRead === 0) {
      throw new RerouteError(
        "checkpoint/truncated",
        `${quote(path)} ends at byte ${position + done}, expected ${out.byteLength - done} more; download or write the file again`,
      );
    }
    done += bytesRead;
  }
}

export async function readRange(file: FileHandle, path: string, position: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  await readInto(file, path, position, bytes);
  return bytes;
}

/**
 * An error of the operating system while reading, as one of ours: a missing file is `checkpoint/not-found`, and so is
 * one that may not be read; a failing disk counts as truncated.
 */
export function readError(error: unknown, path: string): RerouteError {
  if (error instanceof RerouteError) return error;
  const { code = "", message = String(error) } = error as Partial<NodeJS.ErrnoException>;
  const [ours, text] = readProblems[code] ?? ["checkpoint/not-found", message];
  return new RerouteError(ours, `cannot read ${quote(path)}: ${text}`, { cause: error });
}

const readProblems: Record<string, [ErrorCode, string] | undefined> = {
  ENOENT: ["checkpoint/not-found", "no such file or folder; check the path"],
  ENOTDIR: ["checkpoint/not-found", "a part of the path is not a folder; check the path"],
  ELOOP: ["checkpoint/not-found", "its symbolic links lead in a circle"],
  EACCES: ["checkpoint/not-found", "permission denied; check the file's owner and mode"],
  EPERM: ["checkpoint/not-found", "permission denied; check the file's owner and mode"],
  EISDIR: ["checkpoint/not-found", "it is a folder, a file was expected"],
  EMFILE: ["checkpoint/not-found", "too many open files; raise the limit (ulimit -n)"],
  EIO: ["checkpoint/truncated", "the disk reported a read error; check the disk, then download the file again"],
};
