import type { TableModel } from "../tableModel";
import type { HeatmapSpec } from "./heatmapSpec";

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
