/** Numbers of the pages' figures, as a reader sees them. */
import type { Frame } from "playwright-core";
import { click } from "./pointer";

/** The text of a figure's table, row by row; opens the table where it is not shown yet. */
export async function tableOf(frame: Frame, figure: string): Promise<string[][]> {
  const table = frame.locator(`[data-figure=${figure}] tbody tr:not(.spacer)`);
  if ((await table.count()) === 0) await click(frame.locator(`[data-figure=${figure}] button:text-is("Table")`));
  await table.first().waitFor();
  // As text: the tests are typed for Node, which has no document.
  return frame.evaluate(
    `[...document.querySelectorAll("[data-figure=${figure}] tbody tr:not(.spacer)")]
      .map((row) => [...row.cells].map((cell) => cell.textContent.trim()))`,
  );
}

/** "1.53·10⁻¹⁷", "12,345", "3.1 %" and "0.25" as numbers; NaN for "–". */
export function numberOf(text: string): number {
  const share = text.endsWith("%") ? 0.01 : 1;
  const [mantissa, power = ""] = text.replace(/[,%\s]/g, "").split("·10");
  const exponent = power.replace(/./g, (c) => "-0123456789"["⁻⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(c)]!);
  return Number(mantissa) * 10 ** Number(exponent) * share;
}

/** True where a displayed number is the file's, rounded to the digits shown. */
export function agrees(shown: string, expected: number, digits = 3): boolean {
  // Rounding of float32 models is shown as such.
  if (shown.startsWith("0 (<")) return Math.abs(expected) < 1e-12;
  if (!Number.isFinite(expected)) return Number.isNaN(numberOf(shown));
  return Math.abs(numberOf(shown) - expected) <= 10 ** (1 - digits) * 0.51 * Math.abs(expected) + 1e-15;
}

/** A heatmap's table or CSV as cells by row and column label: the first row holds the columns, the first column the rows. */
export function cellsOf(header: string[], rows: string[][]): { row: number; column: number; text: string }[] {
  return rows.flatMap(([row, ...cells]) =>
    cells.map((text, i) => ({ row: Number(row), column: Number(header[i + 1]), text })),
  );
}

/** The column labels of a figure's table. */
export function headerOf(frame: Frame, figure: string): Promise<string[]> {
  return frame.locator(`[data-figure=${figure}] thead th`).allTextContents();
}

/** Rows of an exported CSV without its header. */
export function parseCsv(text: string): { header: string[]; rows: string[][] } {
  const [header = [], ...rows] = text
    .trimEnd()
    .split("\r\n")
    .map((line) => [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g)].map(fieldOf));
  return { header, rows };
}

function fieldOf([, quoted, plain = ""]: RegExpMatchArray): string {
  return quoted?.replaceAll('""', '"') ?? plain;
}
