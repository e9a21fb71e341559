import type { MatrixData } from "../../protocol/panels";
import { escapeHtml } from "./format";
import { formatNumber } from "../../protocol/quantities";

/**
 * Charts of the report as inline SVG: no scripts, no external resources. Colours come from CSS classes, so that they
 * follow light and dark.
 */

/** Cividis (Nunez, Anderton and Renslow 2018), readable with colour-vision deficiencies; interpolated to 24 steps. */
const cividis = [
  "#00224e",
  "#123570",
  "#3b496c",
  "#575d6d",
  "#707173",
  "#8a8678",
  "#a59c74",
  "#c3b369",
  "#e1cc55",
  "#fee838",
];
const numSteps = 24;

/** CSS that the heatmaps need: one class a colour step. */
export const heatmapStyle = Array.from(
  { length: numSteps },
  (_, i) => `.c${i}{fill:${colourAt(i / (numSteps - 1))}}`,
).join("");

export interface HeatmapOptions {
  title: string;
  rowNames: string[];
  columnAxis: string;
  rowAxis: string;
  /** What a cell's colour means, with unit. */
  legend: string;
  /** Value of the last colour; the largest cell where absent. Maps to be compared share one. */
  highest?: number;
}

/** Rows x columns as coloured cells; cells without a value stay empty. One path a colour keeps large maps small. */
export function heatmapSvg({ rows, columns, values }: MatrixData, options: HeatmapOptions): string {
  const cell = Math.max(3, Math.min(18, Math.floor(900 / Math.max(1, columns))));
  const [left, top] = [56, 8];
  const numbers = values.filter((v): v is number => v !== null);
  const highest = options.highest ?? numbers.reduce((most, v) => Math.max(most, v), 0);
  const paths = Array.from({ length: numSteps }, () => [] as string[]);
  values.forEach((value, i) => {
    if (value === null) return;
    const step = highest > 0 ? Math.round(Math.min(1, Math.max(0, value) / highest) * (numSteps - 1)) : 0;
    const [x, y] = [left + (i % columns) * cell, top + Math.floor(i / columns) * cell];
    paths[step]!.push(`M${x} ${y}h${cell}v${cell}h-${cell}z`);
  });
  const width = left + columns * cell + 8;
  const height = top + rows * cell + 34;
  const rowStep = Math.max(1, Math.ceil(14 / cell));
  const columnStep = Math.max(1, 2 ** Math.ceil(Math.log2(28 / cell)));
  const rowLabels = options.rowNames
    .map((name, r) => (r % rowStep === 0 ? text(left - 6, top + (r + 0.5) * cell + 4, name, "end") : ""))
    .join("");
  const columnLabels = Array.from({ length: columns }, (_, c) => c)
    .filter((c) => c % columnStep === 0)
    .map((c) => text(left + (c + 0.5) * cell, top + rows * cell + 13, String(c), "middle"))
    .join("");
  const frame = `<rect class="frame" x="${left}" y="${top}" width="${columns * cell}" height="${rows * cell}"/>`;
  const cells = paths
    .map((parts, i) => (parts.length > 0 ? `<path class="c${i}" d="${parts.join("")}"/>` : ""))
    .join("");
  return figure(
    options.title,
    `<svg role="img" aria-label="${escapeHtml(options.title)}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">` +
      frame +
      cells +
      rowLabels +
      columnLabels +
      text(left + (columns * cell) / 2, height - 5, options.columnAxis, "middle") +
      `<text x="12" y="${top + (rows * cell) / 2}" text-anchor="middle" transform="rotate(-90 12 ${top + (rows * cell) / 2})">${escapeHtml(options.rowAxis)}</text>` +
      `</svg>${colourScale(highest, options.legend)}`,
  );
}

export interface ReportSeries {
  name: string;
  /** CSS class of its colour: s0 to s3. */
  style: string;
  points: { x: number; y: number }[];
  marks?: boolean;
}

export interface LineChartOptions {
  title: string;
  xAxis: string;
  yAxis: string;
  yFromZero?: boolean;
}

/** Lines over a common numeric axis, with ticks and a legend. Nothing to draw gives an empty string. */
export function lineChartSvg(series: readonly ReportSeries[], options: LineChartOptions): string {
  const points = series.flatMap((s) => s.points).filter(({ y }) => Number.isFinite(y));
  if (points.length === 0) return "";
  const [width, height, left, right, top, bottom] = [720, 260, 64, 12, 10, 42];
  const xs = extent(points.map(({ x }) => x));
  const ys = extent([...points.map(({ y }) => y), ...(options.yFromZero ? [0] : [])]);
  const px = (x: number): number => left + ((x - xs.low) / xs.span) * (width - left - right);
  const py = (y: number): number => height - bottom - ((y - ys.low) / ys.span) * (height - top - bottom);
  const yTicks = ticks(ys.low, ys.low + ys.span, 5)
    .map(
      (y) =>
        `<path class="grid" d="M${left} ${round(py(y))}H${width - right}"/>${text(left - 6, py(y) + 4, formatNumber(y), "end")}`,
    )
    .join("");
  const xTicks = ticks(xs.low, xs.low + xs.span, 8)
    .map((x) => text(px(x), height - bottom + 15, formatNumber(x), "middle"))
    .join("");
  const lines = series
    .map(({ points: own, style, marks }) => {
      const finite = own.filter(({ y }) => Number.isFinite(y));
      const d = finite.map(({ x, y }, i) => `${i === 0 ? "M" : "L"}${round(px(x))} ${round(py(y))}`).join("");
      const dots = marks
        ? finite
            .map(({ x, y }) => `<circle class="${style}" r="3" cx="${round(px(x))}" cy="${round(py(y))}"/>`)
            .join("")
        : "";
      return `<path class="line ${style}" d="${d}"/>${dots}`;
    })
    .join("");
  const legend = series
    .map(({ name, style }) => `<span class="key"><i class="${style}"></i>${escapeHtml(name)}</span>`)
    .join("");
  const middle = top + (height - top - bottom) / 2;
  return figure(
    options.title,
    `<svg role="img" aria-label="${escapeHtml(options.title)}" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">` +
      yTicks +
      xTicks +
      lines +
      text(left + (width - left - right) / 2, height - 6, options.xAxis, "middle") +
      `<text x="12" y="${middle}" text-anchor="middle" transform="rotate(-90 12 ${middle})">${escapeHtml(options.yAxis)}</text>` +
      `</svg><div class="legend">${legend}</div>`,
  );
}

function figure(title: string, body: string): string {
  return `<figure><figcaption>${escapeHtml(title)}</figcaption><div class="scroll">${body}</div></figure>`;
}

function colourScale(highest: number, legend: string): string {
  const stops = cividis.map((colour, i) => `${colour} ${Math.round((100 * i) / (cividis.length - 1))}%`).join(",");
  return `<div class="legend">0 <span class="scale" style="background:linear-gradient(to right,${stops})"></span> ${formatNumber(highest)} ${escapeHtml(legend)}</div>`;
}

function text(x: number, y: number, content: string, anchor: "middle" | "end"): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}">${escapeHtml(content)}</text>`;
}

function extent(values: number[]): { low: number; span: number } {
  const low = values.reduce((least, v) => Math.min(least, v), Infinity);
  const high = values.reduce((most, v) => Math.max(most, v), -Infinity);
  // A flat line gets some room above and below.
  return high > low ? { low, span: high - low } : { low: low - 0.5 * (Math.abs(low) || 1), span: Math.abs(low) || 1 };
}

/** About `count` round numbers from low to high. */
function ticks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? rough;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(10)),
  );
}

function colourAt(share: number): string {
  const position = share * (cividis.length - 1);
  const i = Math.min(cividis.length - 2, Math.floor(position));
  const channel = (hex: string, c: number): number => parseInt(hex.slice(1 + 2 * c, 3 + 2 * c), 16);
  const mixed = [0, 1, 2].map((c) => {
    const [a, b] = [channel(cividis[i]!, c), channel(cividis[i + 1]!, c)];
    return Math.round(a + (position - i) * (b - a))
      .toString(16)
      .padStart(2, "0");
  });
  return `#${mixed.join("")}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
