/** A table of raw values: what a chart shows, as text. */
export interface TableModel {
  /** Says what the table holds; read out by screen readers. */
  caption: string;
  columns: readonly TableColumn[];
  rowCount: number;
  /** The raw value, in full precision; null where there is none. */
  cell: (row: number, column: number) => string | number | null;
}

export interface TableColumn {
  label: string;
  /** How a number is displayed; exports write it in full. */
  format?: (value: number | null) => string;
  /** Width in characters. */
  width?: number;
}

/** RFC 4180 with CRLF. */
export function toCsv(table: TableModel): string {
  const lines = [table.columns.map(({ label }) => csvField(label)).join(",")];
  for (let row = 0; row < table.rowCount; row++)
    lines.push(table.columns.map((_, column) => csvField(table.cell(row, column))).join(","));
  return `${lines.join("\r\n")}\r\n`;
}

function csvField(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would run a name that starts like a formula.
  const inert = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}
