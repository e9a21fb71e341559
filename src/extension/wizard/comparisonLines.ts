import type { ComparisonForecast, ComparisonRecipe } from "../../protocol/compare";
import type { Preflight } from "../../protocol/run";
import { formatBytes, formatCount, formatDuration } from "../../protocol/quantities";
import type { Translate } from "../../protocol/translate";
import { editorWords, mayBeForced } from "../editorWords";
import { textLines, type PreflightLine } from "./preflightLines";

/**
 * What is shown before a comparison starts: the grid, time, memory, disk, each cell, what is wrong, then the texts. A cell that would
 * be refused is a warning, since the others are worked all the same; only a grid without any other cannot start, unless it may be forced.
 */
export function comparisonLines(
  { seconds, cells }: ComparisonForecast,
  { grid, calibrate }: ComparisonRecipe,
  directory: string,
  t: Translate,
): PreflightLine[] {
  const fact = (label: string, description: string): PreflightLine => ({ kind: "fact", label, description });
  const refusals = cells.flatMap(({ id, preflight, error }) =>
    (error ? [error] : (preflight?.refusals ?? [])).map((refusal) => ({ id, ...refusal })),
  );
  const refused = new Set(refusals.map(({ id }) => id));
  const known = cells.flatMap(({ id, preflight }) => (preflight ? [{ id, ...preflight }] : []));
  const possible = known.filter(({ id }) => !refused.has(id));
  const recovery = calibrate ? t("before and after Router KD") : t("without calibration");
  return [
    fact(
      t("Grid"),
      t("{0} cells: {1} methods, {2} ratios, {3}", cells.length, grid.methods.length, grid.keep.length, recovery),
    ),
    fact(t("Time"), t("about {0}, with one profile and one teacher for all cells", formatDuration(seconds))),
    ...resources(possible.length > 0 ? possible : known, t),
    fact(t("Folder"), directory),
    ...possible.map(({ id, parametersAfter, bytesAfter, seconds: alone }) =>
      fact(
        id,
        t(
          "{0} parameters, {1}, {2} if it were alone",
          formatCount(parametersAfter),
          formatBytes(bytesAfter),
          formatDuration(alone),
        ),
      ),
    ),
    ...[...new Set(known.flatMap(({ warnings }) => warnings))].map((message): PreflightLine => ({
      kind: "warning",
      label: t("Warning"),
      description: editorWords(message, t),
    })),
    ...refusals.map(({ id, message, code }): PreflightLine => ({
      kind: possible.length > 0 ? "warning" : "refusal",
      label: possible.length > 0 ? t("{0} would be refused", id) : t("Cannot start"),
      description: `${editorWords(message, t)} (${code})`,
      code,
      mayBeForced: mayBeForced({ code, message }),
    })),
    // Last: they are long, and the list shows a dozen lines.
    ...known.flatMap((preflight) => textLines(preflight, t)),
  ];
}

/** The cells come one after another: memory is that of the largest, disk that of all of them. */
function resources(cells: Preflight[], t: Translate): PreflightLine[] {
  const [first] = cells;
  if (!first) return [];
  const disk = cells.reduce((sum, { diskNeededBytes }) => sum + diskNeededBytes, 0);
  const memory = Math.max(...cells.map(({ peakMemoryBytes }) => peakMemoryBytes));
  const lines: PreflightLine[] = [
    {
      kind: "fact",
      label: t("Memory"),
      description: t("peak {0} of a budget of {1}", formatBytes(memory), formatBytes(first.memoryBudgetBytes)),
    },
    {
      kind: "fact",
      label: t("Disk"),
      description: t("up to {0} needed, {1} free", formatBytes(disk), formatBytes(first.diskFreeBytes)),
    },
  ];
  if (disk > first.diskFreeBytes)
    lines.push({
      kind: "warning",
      label: t("Warning"),
      description: t("All cells together may need more disk than is free: later ones would be refused"),
    });
  return lines;
}
