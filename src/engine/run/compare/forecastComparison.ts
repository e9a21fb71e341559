import path from "node:path";
import { comparisonFiles, type CellForecast, type ComparisonForecast } from "../../../protocol/compare";
import { errorCodeOf, isCancelled } from "../../../protocol/errors";
import type { Preflight } from "../../../protocol/run";
import { preflight, type PreflightOptions } from "../preflight/preflight";
import { isRunFolder, readRun } from "../folder/runFolder";
import { probeWith, type RunMachinery } from "../startRun";
import { cellsOf, type Cell } from "./cells";
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

async function forecastCell(
  machinery: RunMachinery,
  { id, method, keep, recipe, runDirectory }: Cell,
  baseFolder: string,
  asked: Pick<PreflightOptions, "showsText" | "force" | "responses"> & { signal: AbortSignal },
): Promise<CellForecast> {
  const probe = probeWith(machinery, { recipe }, asked);
  try {
    const run = (await isRunFolder(runDirectory)) ? await readRun(runDirectory) : null;
    const known = run ? { run } : {};
    const options = { runDirectory, ...known, probe, ...asked };
    const result = await preflight(recipe, baseFolder, options);
    return { id, method, keep, preflight: result, error: null };
  } catch (error) {
    if (isCancelled(error)) throw error;
    const message = error instanceof Error ? error.message : String(error);
    return { id, method, keep, preflight: null, error: { code: errorCodeOf(error), message } };
  }
}

function totalSeconds(cells: readonly CellForecast[]): number {
  const possible = cells.flatMap(({ preflight: p }) => (p && p.refusals.length === 0 ? [p] : []));
  const teacherOf = (p: Preflight): number => p.stages.reduce((sum, stage) => sum + (stage.teacherSeconds ?? 0), 0);
  const own = possible.reduce((sum, p) => sum + p.seconds - teacherOf(p), 0);
  return own + (possible[0] ? teacherOf(possible[0]) : 0);
}
