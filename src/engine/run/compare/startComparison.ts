import path from "node:path";
import {
  comparisonFiles,
  type ComparedCheckpoint,
  type ComparisonCell,
  type ComparisonFile,
  type ComparisonRecipe,
} from "../../../protocol/compare";
import { errorCodeOf, isCancelled, RerouteError, throwIfCancelled } from "../../../protocol/errors";
import type { ReportProgress } from "../../../protocol/progress";
import { engineVersion } from "../../../protocol/version";
import { removeEvaluationState, removeLeftovers, removeTeacherTargets } from "../folder/leftovers";
import { lockRunFolder } from "../folder/lock";
import { withOnlookers } from "../folder/onlookers";
import { createRunFolder } from "../folder/runFolder";
import { partOf, type RunShare } from "../runShare";
import { startRun, type RunMachinery } from "../startRun";
import { updateArms } from "./armsFigure";
import { cellsOf, type Cell } from "./cells";
import { describeComparisonCell, lastOutcome, writeComparison } from "./comparisonFolder";
import { comparisonShare } from "./comparisonShare";
import { openCellScorer, type CellScorer } from "./scoreCells";
import { sharedMachinery } from "./sharedMachinery";

export interface ComparisonRequest {
  /** Folder of the comparison. */
  directory: string;
  recipe: ComparisonRecipe;
  /** Folder that the recipe's relative paths start from. */
  baseFolder: string;
  name: string;
}

export interface ComparisonHooks {
  signal: AbortSignal;
  report?: ReportProgress;
  onWarning?: (message: string) => void;
  /** A cell begins: its number from 1, and the seconds left of the whole comparison, null where nothing can be predicted. */
  onCell?: (cell: Cell, number: number, total: number, remainingSeconds: number | null) => void;
  /** Goes on where the text was trained on; each cell's verdict says so. */
  force?: boolean;
  /** A cell failed; the others go on. */
  onFailure?: (cell: Cell, error: Error) => void;
  /** After every cell. */
  onChange?: (comparison: ComparisonFile) => void;
}

/**
 * Runs a grid cell by cell, each an ordinary run in `cells/<method>-<keep>`. Called again it goes on where it
 * stopped: finished cells are checked and kept, failed ones are tried again. A cell that fails is recorded with its code
 * and the others go on. comparison.json is there after every cell; `writeReport` is called at the end.
 *
 * @throws RerouteError `run/locked`, `cancelled`; what the first cell threw where no cell at all could be finished
 */
export async function startComparison(
  machinery: RunMachinery,
  writeReport: (directory: string) => Promise<void>,
  request: ComparisonRequest,
  hooks: ComparisonHooks,
): Promise<ComparisonFile> {
  const shared = path.join(request.directory, comparisonFiles.shared);
  await createRunFolder(shared);
  const release = await lockRunFolder(request.directory);
  try {
    await removeLeftovers(request.directory);
    await removeLeftovers(shared);
    const { comparison, firstError } = await withOnlookers(request.directory, hooks, (seen) =>
      workCells(sharedMachinery(machinery, shared, request.recipe.grid.arms !== undefined), request, seen),
    );
    await removeTeacherTargets(shared);
    await removeEvaluationState(shared, "all");
    await writeReport(request.directory);
    if (firstError !== null && comparison.cells.every(({ state }) => state === "failed")) throw firstError;
    return comparison;
  } finally {
    await release();
  }
}

async function workCells(
  machinery: RunMachinery,
  { directory, recipe, baseFolder, name }: ComparisonRequest,
  hooks: ComparisonHooks,
): Promise<{ comparison: ComparisonFile; firstError: Error | null }> {
  const cells = cellsOf(recipe, directory, name);
  const scorer = await openCellScorer(recipe, baseFolder, hooks.signal);
  const known: ComparisonCell[] = [];
  let teacher: ComparedCheckpoint | null = null;
  for (const cell of cells) {
    const described = await describeComparisonCell(cell, await lastOutcome(cell));
    known.push(described.cell);
    teacher ??= described.teacher;
  }
  let firstError: Error | null = null;
  const comparison = (): ComparisonFile => ({
    schemaVersion: 1,
    name,
    reroute: engineVersion,
    recipe,
    baseFolder: path.resolve(baseFolder),
    teacher,
    cells: [...known],
  });
  await writeComparison(directory, comparison());
  const share = await comparisonShare(machinery, cells, baseFolder, hooks);
  for (const [i, cell] of cells.entries()) {
    throwIfCancelled(hooks.signal);
    hooks.onCell?.(cell, i + 1, cells.length, share.remainingSeconds());
    const error = await workCell(machinery, cell, { scorer, share, baseFolder }, hooks);
    if (error !== null) share.leaveOut(cell.id);
    if (error !== null) hooks.onFailure?.(cell, error);
    const described = await describeComparisonCell(cell, outcomeOf(error));
    known[i] = described.cell;
    teacher = described.teacher ?? teacher;
    firstError ??= error;
    await writeComparison(directory, comparison());
    await updateArms(directory, comparison());
    hooks.onChange?.(comparison());
  }
  return { comparison: comparison(), firstError };
}

/** @throws RerouteError `cancelled` only; every other failure is the cell's */
async function workCell(
  machinery: RunMachinery,
  cell: Cell,
  { scorer, share, baseFolder }: { scorer: CellScorer | null; share: RunShare; baseFolder: string },
  { signal, report, onWarning, force = false }: ComparisonHooks,
): Promise<Error | null> {
  try {
    await startRun(
      machinery,
      { runDirectory: cell.runDirectory, recipe: cell.recipe, baseFolder },
      {
        signal,
        force,
        share: partOf(share, cell.id),
        report: (progress) => report?.({ ...progress, message: `${cell.id}: ${progress.message}` }),
        ...(onWarning ? { onWarning: (message: string) => onWarning(`${cell.id}: ${message}`) } : {}),
      },
    );
    await scorer?.score(cell, (progress) => report?.({ ...progress, run: share.behind(progress) }));
    return null;
  } catch (error) {
    if (isCancelled(error)) throw error;
    return error instanceof Error ? error : new RerouteError("internal", String(error));
  }
}

function outcomeOf(error: Error | null): Pick<ComparisonCell, "state" | "error"> {
  if (error === null) return { state: "done", error: null };
  return { state: "failed", error: { code: errorCodeOf(error), message: error.message } };
}
