import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";

/** The folder that runs lie in unless somebody says otherwise. */
const ownFolder = ".reroute";

/**
 * Keeps runs out of version control: weights and statistics do not belong there. Where a run folder lies below `.reroute` and that
 * has no .gitignore, it gets one. A folder that somebody chose is theirs to ignore.
 */
export async function ignoreInGit(runDirectory: string): Promise<void> {
  const parts = path.resolve(runDirectory).split(path.sep);
  const depth = parts.lastIndexOf(ownFolder);
  if (depth < 0) return;
  const file = path.join(parts.slice(0, depth + 1).join(path.sep) || path.sep, ".gitignore");
  if (existsSync(file)) return;
  const text =
    "# Run folders of Reroute: statistics and checkpoints. Delete this file to have them in version control.\n*\n";
  // Never a reason not to run.
  await writeFile(file, text, { flag: "wx" }).catch(() => undefined);
}
