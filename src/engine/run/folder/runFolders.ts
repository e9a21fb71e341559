import { readdir } from "node:fs/promises";
import path from "node:path";
import { comparisonFiles } from "../../../protocol/compare";
import { isRunFolder, readRun } from "./runFolder";

/** Runs directly below a folder, and those of the comparisons below it. */
export async function runDirectories(runsFolder: string): Promise<string[]> {
  const direct = await foldersOf(runsFolder);
  const cells = await Promise.all(
    [runsFolder, ...direct].map((folder) => foldersOf(path.join(folder, comparisonFiles.cells))),
  );
  const folders = [...direct, ...cells.flat()];
  const isReadable = await Promise.all(
    folders.map(
      async (folder) =>
        (await isRunFolder(folder)) &&
        readRun(folder).then(
          () => true,
          () => false,
        ),
    ),
  );
  return folders.filter((_, i) => isReadable[i]);
}

async function foldersOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => path.join(folder, name));
}
