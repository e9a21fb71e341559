import { constants } from "node:fs";
import { copyFile, link, mkdir } from "node:fs/promises";
import path from "node:path";
import { writeError } from "../../checkpoint/atomicFile";

/** A second name for a finished file; a copy where the file system has none. False where there is no such file. */
export async function linkFile(from: string, to: string): Promise<boolean> {
  await mkdir(path.dirname(to), { recursive: true });
  try {
    await link(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return false;
    if (code === "EEXIST") return true;
  }
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    throw writeError(error, to);
  }
}
