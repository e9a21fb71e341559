import type { DomainOptions } from "./colourDomain";
import { t } from "../translate";

/** What a heatmap shows. Cells are addressed by position; `labels` say what the positions are. */
export interface HeatmapSpec {
  rows: HeatmapAxis;
  columns: HeatmapAxis;
  /** Row-major; null cells are hatched. */
  values: readonly (number | null)[];
  /** What a cell means, with its unit: title of the colour bar. */
  quantity: string;
  format: (value: number | null) => string;
  colours: DomainOptions;
  /** What null means, for the legend; null when there are no such cells. */
  nullMeaning: string | null;
  /** Sets of positions whose blocks are outlined (square matrices). */
  groups?: readonly (readonly number[])[];
  /** Positions marked at the edges (square matrices), and what the mark means. */
  marked?: { positions: readonly number[]; meaning: string };
  /** Cells that are crossed out, by their place in `values`, and what that means. */
  crossed?: { cells: ReadonlySet<number>; meaning: string };
  selected: { row: number; column: number | null } | null;
  square?: boolean;
  /** Called with Enter or a click. */
  onSelect?: (row: number, column: number) => void;
}

export interface HeatmapAxis {
  /** Name with unit, e.g. "Expert". */
  title: string;
  labels: readonly string[];
}

/** One line for tooltip, cursor line and screen reader. */
export function describeCell(spec: HeatmapSpec, row: number, column: number): string {
  const value = spec.values[row * spec.columns.labels.length + column] ?? null;
  const shown = value === null ? (spec.nullMeaning ?? t("no value")) : spec.format(value);
  const marks = spec.marked && (spec.marked.positions.includes(row) || spec.marked.positions.includes(column));
  return [
    `${spec.rows.title} ${spec.rows.labels[row]!}, ${spec.columns.title.toLowerCase()} ${spec.columns.labels[column]!}`,
    `${spec.quantity}: ${shown}`,
    ...(marks ? [spec.marked!.meaning] : []),
    ...(spec.crossed?.cells.has(row * spec.columns.labels.length + column) === true ? [spec.crossed.meaning] : []),
  ].join("\n");
}
