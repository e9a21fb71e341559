import { statfs } from "node:fs/promises";
import path from "node:path";

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
