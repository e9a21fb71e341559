import { statfs } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { writeError } from "./atomicFile";
import { quote } from "./quote";

/** Bytes that this user may still write where `location` is or would be created. */
export async function freeDiskBytes(location: string): Promise<number> {
  for (let folder = path.resolve(location); ; folder = path.dirname(folder)) {
    try {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    } catch (error) {
      const missing = ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
      if (!missing || folder === path.dirname(folder)) throw error;
    }
  }
}

/** @throws RerouteError preflight/disk where `needed` bytes do not fit where `location` is or would be created; what a failed write is */
export async function requireFreeSpace(directory: string, needed: number): Promise<void> {
  const free = await freeDiskBytes(directory).catch((error: unknown) => {
    throw writeError(error, directory);
  });
  if (free >= needed) return;
  throw new RerouteError(
    "preflight/disk",
    `writing ${quote(directory)} takes ${needed} bytes, the disk has ${free} free; free some space or choose another folder`,
  );
}
