import path from "node:path";
import { comparisonFiles, type CellForecast, type ComparisonForecast } from "../../../protocol/compare";
import type { Preflight } from "../../../protocol/run";
import type { RunMachinery } from "../startRun";
import { cellsOf } from "./cells";
import { forecastCell } from "./forecastCell";
import { openCellScorer } from "./scoreCells";
import { sharedMachinery } from "./sharedMachinery";
import type { ComparisonRequest } from "./startComparison";

/**
 * Each cell's pre-flight as if it were alone; the machine is measured once. What the teacher does is done once too (profile,
 * targets, evaluation), so it counts once in `seconds`. Nothing is written.
 *
 * @throws RerouteError `cancelled`, those of openCellScorer; every other failure is the cell's
 */
export async function forecastComparison(
  machinery: RunMachinery,
  { directory, recipe, baseFolder, name }: ComparisonRequest,
  signal: AbortSignal,
  force = false,
): Promise<ComparisonForecast> {
  const scorer = await openCellScorer(recipe, baseFolder, signal);
  const shared = sharedMachinery(machinery, path.join(directory, comparisonFiles.shared));
  const cells: CellForecast[] = [];
  for (const cell of cellsOf(recipe, directory, name)) {
    // All cells read the same texts: they are shown once.
    const asked = scorer && cell.arm !== undefined ? { responses: scorer.responses } : {};
    const options = { showsText: cells.length === 0, signal, force, ...asked };
    cells.push(await forecastCell(shared, cell, baseFolder, options));
  }
  return { seconds: totalSeconds(cells), cells };
}

function totalSeconds(cells: readonly CellForecast[]): number {
  const possible = cells.flatMap(({ preflight: p }) => (p && p.refusals.length === 0 ? [p] : []));
  const teacherOf = (p: Preflight): number => p.stages.reduce((sum, stage) => sum + (stage.teacherSeconds ?? 0), 0);
  const own = possible.reduce((sum, p) => sum + p.seconds - teacherOf(p), 0);
  return own + (possible[0] ? teacherOf(possible[0]) : 0);
}
