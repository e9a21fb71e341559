import { existsSync } from "node:fs";
import path from "node:path";
import { comparisonFiles } from "../../protocol/compare";

/** True for the folder of a comparison. */
export function isComparison(directory: string): boolean {
  return existsSync(path.join(directory, comparisonFiles.comparison));
}

/** The comparison that a run is a cell of; null for a run of its own. Only paths are looked at. */
export function comparisonOf(runDirectory: string): string | null {
  const cells = path.dirname(runDirectory);
  return path.basename(cells) === comparisonFiles.cells ? path.dirname(cells) : null;
}

/** Folder of a comparison's cell. */
export function cellFolder(directory: string, id: string): string {
  return path.join(directory, comparisonFiles.cells, id);
}
