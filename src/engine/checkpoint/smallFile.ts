import { open, stat, type FileHandle } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { readError } from "./fileErrors";
import { quote } from "./quote";

/**
 * A whole file of at most `limit` bytes. What is not a regular file (a pipe would wait for ever) is refused.
 *
 * @throws RerouteError checkpoint/not-found, /limit, /truncated
 */
export async function readSmallFile(path: string, limit: number): Promise<Uint8Array> {
  const file = await openRegularFile(path);
  try {
    const { size } = await file.stat();
    if (size > limit) {
      throw new RerouteError("checkpoint/limit", `${quote(path)} has ${size} bytes, the limit is ${limit}`);
    }
    return await readRange(file, path, 0, size);
  } catch (error) {
    throw readError(error, path);
  } finally {
    await file.close();
  }
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
