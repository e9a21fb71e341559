import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { comparisonFiles } from "../../protocol/compare";
import { runFiles } from "../../protocol/run";

/** Files that the list of runs is made of. */
export const listedFiles = [runFiles.run, runFiles.evaluation, runFiles.labels, comparisonFiles.comparison] as const;

/** What runs and comparisons there are, and when their files were written last, as one text: another text, another list. */
export async function runsOnDisk(folders: readonly string[]): Promise<string> {
  const direct = (await Promise.all(folders.map(entriesOf))).flat();
  const cells = (await Promise.all(direct.map((folder) => entriesOf(path.join(folder, comparisonFiles.cells))))).flat();
  const files = [...direct, ...cells].flatMap((folder) => listedFiles.map((name) => path.join(folder, name)));
  const written = await Promise.all(files.map((file) => stat(file).catch(() => null)));
  return files.flatMap((file, i) => (written[i] ? [`${file} ${written[i].mtimeMs}`] : [])).join("\n");
}

async function entriesOf(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).map((name) => path.join(folder, name));
}
