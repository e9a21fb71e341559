import type { TableModel } from "../tableModel";
import { xText, type LineSpec } from "./lineChart";
import type { HeatmapSpec } from "./heatmapSpec";

/** The numbers of a line chart: one row an x value, one column a series. Its caption says what is counted, where no column does. */
export function seriesTable(title: string, spec: LineSpec): TableModel {
  const xs = [...new Set(spec.series.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const columns = spec.series.map(({ points }) => new Map(points.map(({ x, y }) => [x, y])));
  const isSaid = spec.series.some(({ label }) => label === spec.y.title);
  return {
    caption: isSaid ? title : `${title} (${spec.y.title})`,
    columns: [
      { label: spec.x.title, format: (x) => (x === null ? "–" : xText(spec, x)) },
      ...spec.series.map(({ label }) => ({ label, format: spec.format })),
    ],
    rowCount: xs.length,
    cell: (row, column) => (column === 0 ? xs[row]! : (columns[column - 1]!.get(xs[row]!) ?? null)),
  };
}

/** A heatmap's numbers: one table row a matrix row, one column a matrix column. */
export function matrixTable(spec: HeatmapSpec): TableModel {
  const width = spec.columns.labels.length;
  return {
    caption: `${spec.quantity} by ${spec.rows.title.toLowerCase()} (rows) and ${spec.columns.title.toLowerCase()} (columns)`,
    columns: [{ label: spec.rows.title }, ...spec.columns.labels.map((label) => ({ label, format: spec.format }))],
    rowCount: spec.rows.labels.length,
    cell: (row, column) => (column === 0 ? spec.rows.labels[row]! : (spec.values[row * width + column - 1] ?? null)),
  };
}
