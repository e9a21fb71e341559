import { escapeHtml } from "./format";
import { formatBytes, formatNumber } from "../../protocol/quantities";
import { extent, figure, round, svg, text, yTitle } from "./svg";

/** A checkpoint in a chart of size against quality. */
export interface ReportPoint {
  label: string;
  /** CSS class of its colour. */
  style: string;
  /** Bytes. */
  x: number;
  y: number;
}

export interface ScatterOptions {
  title: string;
  yAxis: string;
  series: { style: string; name: string }[];
  yFromZero?: boolean;
}

const [width, height, left, right, top, bottom] = [760, 340, 76, 130, 14, 42];

const [labelWidth, labelHeight] = [100, 12];

/** Size in bytes against another number, as inline SVG: a dot and its name each. Nothing to draw gives an empty string. */
export function scatterChartSvg(
  points: readonly ReportPoint[],
  { title, yAxis, series, yFromZero }: ScatterOptions,
): string {
  const finite = points.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  if (finite.length === 0) return "";
  const xs = extent(finite.map(({ x }) => x));
  const ys = extent([...(yFromZero ? [0] : []), ...finite.map(({ y }) => y)]);
  const px = (x: number): number => left + ((x - xs.low) / xs.span) * (width - left - right);
  const py = (y: number): number => height - bottom - ((y - ys.low) / ys.span) * (height - top - bottom);
  const quarters = [0, 0.25, 0.5, 0.75, 1];
  const grid = quarters
    .map((share) => {
      const [x, y] = [xs.low + share * xs.span, ys.low + share * ys.span];
      return (
        `<path class="grid" d="M${left} ${round(py(y))}H${width - right}"/>` +
        text(left - 6, py(y) + 4, formatNumber(Number(y.toPrecision(4))), "end") +
        text(px(x), height - bottom + 15, formatBytes(x), "middle")
      );
    })
    .join("");
  const placed = finite.map((point) => ({ ...point, px: px(point.x), py: py(point.y) })).sort((a, b) => a.py - b.py);
  const labels = spreadLabels(placed);
  const dots = placed
    .map(
      ({ label, style, x, y, px: cx, py: cy }, i) =>
        `<circle class="${style}" r="4" cx="${round(cx)}" cy="${round(cy)}"><title>${escapeHtml(`${label}: ${formatNumber(y)} at ${formatBytes(x)}`)}</title></circle>` +
        text(cx + 7, labels[i]! + 4, label, "start"),
    )
    .join("");
  const legend = series
    .map(
      ({ style, name }) =>
        `<svg width="10" height="10" aria-hidden="true"><circle class="${style}" r="4" cx="5" cy="5"/></svg>${escapeHtml(name)}`,
    )
    .join("");
  const axes =
    text(left + (width - left - right) / 2, height - 6, "size on disk", "middle") +
    yTitle(top + (height - top - bottom) / 2, yAxis);
  return figure(title, svg({ title, width, height }, grid + dots + axes) + `<div class="legend">${legend}</div>`);
}

/** Heights of the names beside dots that are sorted by height: a name that would cover another one moves below it. */
function spreadLabels(dots: readonly { px: number; py: number }[]): number[] {
  const heights: number[] = [];
  for (const [i, { px, py }] of dots.entries()) {
    const above = heights.filter((_, j) => j < i && Math.abs(dots[j]!.px - px) < labelWidth);
    heights.push(above.reduce((least, y) => Math.max(least, y + labelHeight), py));
  }
  return heights;
}
