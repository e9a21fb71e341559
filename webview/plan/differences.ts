import type { Translate } from "../../src/protocol/translate";
import type { PlanMap, PlanView } from "../../src/protocol/panels";

/** This plan's map minus the other's, over the layers and columns of this one; null where the other has no such cell. */
export function differenceMap(own: PlanView, other: PlanView, t: Translate): PlanMap | null {
  const [mine, theirs] = [mapToCompare(own), mapToCompare(other)];
  if (!mine || theirs?.id !== mine.id) return null;
  const width = mine.columns.length;
  const rowOf = new Map(other.layers.map((layer, row) => [layer, row]));
  const columnOf = new Map(theirs.columns.map((column, at) => [column, at]));
  const values = mine.values.map((value, cell) => {
    const row = rowOf.get(own.layers[Math.floor(cell / width)]!);
    const column = columnOf.get(mine.columns[cell % width]!);
    if (row === undefined || column === undefined || value === null) return null;
    const there = theirs.values[row * theirs.columns.length + column] ?? null;
    return there === null ? null : value - there;
  });
  return {
    ...mine,
    id: "difference",
    label: t("Difference to the other plan"),
    quantity: mine.id === "kept" ? t("kept here (1) or there (−1) only") : t("difference of {0}", mine.quantity),
    values,
    nullMeaning: values.includes(null) ? t("not in the other plan") : null,
    crossed: [],
  };
}

/** How many cells differ, in how many layers; null where the plans cannot be compared. */
export function countDifferences(map: PlanMap | null): { cells: number; layers: number } | null {
  if (!map) return null;
  const rows = new Set<number>();
  let cells = 0;
  map.values.forEach((value, cell) => {
    if (value === null || value === 0) return;
    cells++;
    rows.add(Math.floor(cell / map.columns.length));
  });
  return { cells, layers: rows.size };
}

/** What a plan decides, not what it decided by. */
function mapToCompare({ maps }: PlanView): PlanMap | undefined {
  return maps.find(({ id }) => id !== "scores");
}
