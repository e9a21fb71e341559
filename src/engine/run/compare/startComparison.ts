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
import { startRun, type RunMachinery } from "../startRun";
import { updateArms } from "./armsFigure";
import { cellsOf, type Cell } from "./cells";
import { describeComparisonCell, lastOutcome, writeComparison } from "./comparisonFolder";
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
  /** A cell begins: its number from 1, and the seconds left after the pace of the cells before it, null before the first. */
  onCell?: (cell: Cell, number: number, total: number, remainingSeconds: number | null) => void;
  /** Goes on where the text was trained on; each cell's verdict says so. */
  force?: boolean;
  /** A cell failed; the others go on. */
  onFailure?: (cell: Cell, error: Error) => void;
  /** After every cell. */
  onChange?: (comparison: ComparisonFile) => void;
}

/**
 * Works a grid off, cell by cell, each an ordinary run in `cells/<method>-<keep>`. Called again it goes on where it
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
  const pace = paceOfCells();
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
  for (const [i, cell] of cells.entries()) {
    throwIfCancelled(hooks.signal);
    hooks.onCell?.(cell, i + 1, cells.length, pace.remaining(cells.length - i));
    const started = performance.now();
    const { error, didWork } = await workCell(machinery, cell, scorer, baseFolder, hooks);
    if (didWork) pace.add((performance.now() - started) / 1000);
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
  scorer: CellScorer | null,
  baseFolder: string,
  { signal, report, onWarning, force = false }: ComparisonHooks,
): Promise<{ error: Error | null; didWork: boolean }> {
  let didWork = false;
  try {
    await startRun(
      machinery,
      { runDirectory: cell.runDirectory, recipe: cell.recipe, baseFolder },
      {
        signal,
        force,
        report: (progress) => {
          didWork = true;
          report?.({ ...progress, message: `${cell.id}: ${progress.message}` });
        },
        ...(onWarning ? { onWarning: (message: string) => onWarning(`${cell.id}: ${message}`) } : {}),
      },
    );
    await scorer?.score(cell, report);
    return { error: null, didWork };
  } catch (error) {
    if (isCancelled(error)) throw error;
    const own = error instanceof Error ? error : new RerouteError("internal", String(error));
    return { error: own, didWork };
  }
}

function outcomeOf(error: Error | null): Pick<ComparisonCell, "state" | "error"> {
  if (error === null) return { state: "done", error: null };
  return { state: "failed", error: { code: errorCodeOf(error), message: error.message } };
}

/** Mean time of the cells that did something, and what it makes of those left. */
function paceOfCells(): { add: (seconds: number) => void; remaining: (cells: number) => number | null } {
  const seconds: number[] = [];
  return {
    add: (value) => void seconds.push(value),
    remaining: (cells) =>
      seconds.length === 0 ? null : (cells * seconds.reduce((sum, value) => sum + value, 0)) / seconds.length,
  };
}
