import type { DistillationFigure } from "../../src/protocol/panels";
import { decimal } from "../common/format";
import type { TableModel } from "../common/tableModel";
import { plainLabel } from "../common/text";

/** A row an x value, a column a series, and one for its ±; of arms the table of the report. */
export function figureTable({ title, xAxis, yAxis, series, rows }: DistillationFigure): TableModel {
  if (rows) {
    return {
      caption: title,
      columns: rows.head.map((label) => ({ label })),
      rowCount: rows.cells.length,
      cell: (row, column) => rows.cells[row]![column] ?? null,
    };
  }
  const xs = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const columns = series.flatMap(({ name, points }) => {
    const label = plainLabel(name, 60);
    const at = new Map(points.map((point) => [point.x, point]));
    const mean = { label: `${label} (${yAxis})`, of: (x: number) => at.get(x)?.y ?? null };
    if (points.every(({ halfWidth95 }) => halfWidth95 === null)) return [mean];
    return [mean, { label: `± ${label}`, of: (x: number) => at.get(x)?.halfWidth95 ?? null }];
  });
  const format = (value: number | null) => decimal(value);
  return {
    caption: title,
    columns: [{ label: xAxis, format: String }, ...columns.map(({ label }) => ({ label, format }))],
    rowCount: xs.length,
    cell: (row, column) => (column === 0 ? xs[row]! : columns[column - 1]!.of(xs[row]!)),
  };
}
