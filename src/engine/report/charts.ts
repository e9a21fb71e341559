import type { MatrixData } from "../../protocol/panels";
import { escapeHtml } from "./format";
import { colourOf, colourStops } from "../../protocol/colourScales";
import { formatNumber } from "../../protocol/quantities";
import { extent, figure, round, svg, text, yTitle } from "./svg";

/**
 * Charts of the report as inline SVG: no scripts, no external resources. Colours come from CSS classes, so that they
 * follow light and dark.
 */

const numSteps = 24;

/** CSS that the heatmaps need: one class a colour step. */
export const heatmapStyle = Array.from(
  { length: numSteps },
  (_, i) => `.c${i}{fill:${colourOf("cividis", i / (numSteps - 1))}}`,
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
    svg(
      { title: options.title, width, height },
      frame +
        cells +
        rowLabels +
        columnLabels +
        text(left + (columns * cell) / 2, height - 5, options.columnAxis, "middle") +
        yTitle(top + (rows * cell) / 2, options.rowAxis),
    ) + colourScale(highest, options.legend),
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
  return figure(
    options.title,
    svg(
      { title: options.title, width, height },
      yTicks +
        xTicks +
        lines +
        text(left + (width - left - right) / 2, height - 6, options.xAxis, "middle") +
        yTitle(top + (height - top - bottom) / 2, options.yAxis),
    ) + `<div class="legend">${legend}</div>`,
  );
}

function colourScale(highest: number, legend: string): string {
  const stops = colourStops.cividis.map(
    (colour, i, { length }) => `#${colour} ${Math.round((100 * i) / (length - 1))}%`,
  );
  return `<div class="legend">0 <span class="scale" style="background:linear-gradient(to right,${stops.join(",")})"></span> ${formatNumber(highest)} ${escapeHtml(legend)}</div>`;
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
