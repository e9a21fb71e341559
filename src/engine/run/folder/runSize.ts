import { existsSync } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import path from "node:path";
import { isRunFolder, readRun, runPaths } from "./runFolder";

/**
 * Bytes of a run's or comparison's folder, and of the checkpoint that the run wrote outside it; null where there is none.
 * Links are not followed.
 */
export async function runSize(
  directory: string,
): Promise<{ bytes: number; output: { path: string; bytes: number } | null }> {
  const bytes = await folderSize(directory);
  if (!(await isRunFolder(directory))) return { bytes, output: null };
  const { recipe, baseFolder, stages } = await readRun(directory);
  const { output } = await runPaths(directory, recipe, baseFolder);
  const isWritten = stages.some(({ id, state }) => (id === "compress" || id === "calibrate") && state === "done");
  const isInside = output.startsWith(directory + path.sep);
  // What a finished run wrote is marked; a folder of that name without the mark is somebody else's.
  if (!isWritten || isInside || !existsSync(path.join(output, "reroute.json"))) return { bytes, output: null };
  return { bytes, output: { path: output, bytes: await folderSize(output) } };
}

async function folderSize(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.map(async (entry) => {
      const file = path.join(directory, entry.name);
      if (entry.isDirectory()) return folderSize(file);
      if (!entry.isFile()) return 0;
      // A run that is being worked on may have renamed it meanwhile.
      return lstat(file).then(
        ({ size }) => size,
        () => 0,
      );
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
