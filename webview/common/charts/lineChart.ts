import type { ChartOptions } from "chart.js";
import type { Theme } from "../theme";
import { axis, baseOptions, font, tooltipStyle, type Chart, type ChartKind } from "./chartjs";
import { mountChart } from "./mountChart";
import { pointCursor } from "./pointCursor";
import { tickLabels, uprightScale, uprightTitle } from "./axis";

export interface LineSpec {
  /** Axis titles with units. */
  x: { title: string; format?: (value: number) => string };
  y: { title: string; min?: number; max?: number; log?: boolean };
  series: readonly Series[];
  format: (value: number | null) => string;
  /** Bars for counts; lines otherwise. */
  bars?: boolean;
  /** A dashed vertical line with its meaning, e.g. the best step. */
  marker?: { x: number; label: string } | null;
  /** A layer selected in another panel. */
  selectedX?: number | null;
  height?: number;
  onSelect?: (x: number) => void;
}

export interface Series {
  label: string;
  points: readonly { x: number; y: number }[];
  /** Sparse series show their points even when there are many. */
  pronounced?: boolean;
}

const dashes = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
const markers = ["circle", "rectRot", "triangle", "rect"] as const;

/** Lines (or bars) over one axis of numbers, with cursor, tooltip and legend. Series differ by colour, dash and marker. */
export const lineChart: ChartKind<LineSpec> = (host, spec, theme, announce) => {
  const { frame, chart, shown, drawn } = mountChart<LineSpec, "line">(host, spec, theme, {
    height: heightOf(spec),
    type: (spec.bars === true ? "bar" : "line") as "line",
    data: dataOf,
    options: optionsOf,
    plugin: (now) => ({
      id: "verticals",
      afterDatasetsDraw: (chart) => {
        drawVerticals(chart, now().spec, now().theme);
      },
    }),
  });
  pointCursor(frame, chart, "chart", announce, {
    describe: (series, index) => {
      const { label, points } = shown().series[series] ?? { label: "", points: [] };
      const point = points[index];
      return point ? `${shown().x.title} ${xText(shown(), point.x)}, ${label}: ${shown().format(point.y)}` : null;
    },
    select: (series, index) => {
      const point = shown().series[series]?.points[index];
      if (point) shown().onSelect?.(point.x);
    },
  });
  return drawn;
};

function dataOf(spec: LineSpec, theme: Theme): { labels?: number[]; datasets: never[] } {
  const datasets = spec.series.map(({ label, points, pronounced }, i) => {
    const colour = theme.series[i % theme.series.length]!;
    const dots = pronounced === true || points.length <= 60;
    return {
      label,
      data: points.map(({ x, y }) => (spec.bars === true ? { x: String(x), y } : { x, y })),
      borderColor: colour,
      backgroundColor: colour,
      borderDash: spec.bars === true ? [] : dashes[i % dashes.length],
      borderWidth: spec.bars === true ? 0 : 1.75,
      pointStyle: markers[i % markers.length],
      pointRadius: dots ? 3 : 0,
      pointHoverRadius: 5,
      // Sparse points go on top; markers at the edges stay whole.
      order: pronounced === true ? 0 : 1,
      clip: 8,
    };
  });
  return { datasets: datasets as unknown as never[] };
}

function optionsOf(spec: LineSpec, theme: Theme): ChartOptions<"line"> {
  const xs = spec.series.flatMap(({ points }) => points.map(({ x }) => x));
  const base = axis(theme, spec.x.title, false);
  const x =
    spec.bars === true
      ? { ...base, type: "category", offset: true, labels: [...new Set(xs)].map(String) }
      : { ...base, type: "linear", ticks: { ...base.ticks, precision: 0 }, ...xRange(xs) };
  const yAxis = axis(theme, spec.y.title);
  const y = {
    ...yAxis,
    // Legend, ticks and the title of the other axis take the rest of the height.
    title: { ...yAxis.title, text: uprightTitle(spec.y.title, heightOf(spec) - 80, theme) },
    ...uprightScale(spec.y.log),
    beginAtZero: spec.bars === true,
    ...(spec.y.min === undefined ? {} : { min: spec.y.min }),
    ...(spec.y.max === undefined ? {} : { max: spec.y.max }),
    ticks: { ...yAxis.ticks, ...(spec.bars === true ? { precision: 0 } : {}), callback: tickLabels(spec.format) },
  };
  const options = {
    ...baseOptions<"line">(theme),
    // x values are numbers; the categories of bars are text and need parsing.
    parsing: spec.bars === true ? undefined : false,
    // By distance along x, not by index: held-out points are sparser than updates.
    interaction: { mode: "nearest", axis: "x", intersect: false },
    plugins: {
      legend: {
        display: spec.series.length > 1,
        align: "start",
        labels: { color: theme.foreground, font: font(theme), usePointStyle: true, boxHeight: 7 },
        // Hiding a series by mouse alone would leave the keyboard out.
        onClick: () => undefined,
      },
      tooltip: {
        ...tooltipStyle(theme),
        callbacks: {
          title: (items: { raw: unknown }[]) =>
            `${spec.x.title} ${xText(spec, Number((items[0]?.raw as { x: unknown }).x))}`,
          label: (item: { dataset: { label?: string }; raw: unknown }) =>
            ` ${item.dataset.label ?? ""}: ${spec.format((item.raw as { y: number }).y)}`,
        },
      },
    },
    onClick: (_: unknown, elements: { datasetIndex: number; index: number }[]) => {
      const first = elements[0];
      const point = first && spec.series[first.datasetIndex]?.points[first.index];
      if (point) spec.onSelect?.(point.x);
    },
    scales: { x, y },
  };
  return options as unknown as ChartOptions<"line">;
}

function heightOf({ height = 240 }: LineSpec): number {
  return height;
}

/** An x value as text, in tables, tooltips and announcements. */
export function xText({ x: { format = String } }: LineSpec, x: number): string {
  return format(x);
}

function xRange(xs: number[]): { min: number; max: number } | object {
  if (xs.length === 0) return {};
  let min = Infinity;
  let max = -Infinity;
  for (const x of xs) {
    min = Math.min(min, x);
    max = Math.max(max, x);
  }
  return min === max ? { min: min - 1, max: max + 1 } : { min, max };
}

function drawVerticals(chart: Chart, spec: LineSpec, theme: Theme): void {
  const scale = chart.scales["x"];
  if (!scale) return;
  const { ctx, chartArea } = chart;
  const line = (x: number, colour: string, dash: number[]): number => {
    const labels = spec.bars === true ? (chart.options.scales?.["x"] as { labels?: string[] }).labels : undefined;
    const position = labels ? scale.getPixelForValue(labels.indexOf(String(x))) : scale.getPixelForValue(x);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.5;
    ctx.setLineDash(dash);
    ctx.beginPath();
    ctx.moveTo(position, chartArea.top);
    ctx.lineTo(position, chartArea.bottom);
    ctx.stroke();
    return position;
  };
  ctx.save();
  if (spec.selectedX !== undefined && spec.selectedX !== null) line(spec.selectedX, theme.warning, []);
  if (spec.marker) {
    const position = line(spec.marker.x, theme.foreground, [5, 4]);
    ctx.font = `${theme.fontSize}px ${theme.fontFamily}`;
    const width = ctx.measureText(spec.marker.label).width;
    const toLeft = position + width + 8 > chartArea.right;
    ctx.textBaseline = "top";
    ctx.textAlign = toLeft ? "right" : "left";
    const left = toLeft ? position - 5 - width : position + 5;
    // Lines behind the words would make them hard to read.
    ctx.globalAlpha = 0.8;
    ctx.fillStyle = theme.background;
    ctx.fillRect(left - 2, chartArea.top, width + 4, theme.fontSize + 4);
    ctx.globalAlpha = 1;
    ctx.fillStyle = theme.foreground;
    ctx.fillText(spec.marker.label, toLeft ? position - 5 : position + 5, chartArea.top + 2);
  }
  ctx.restore();
}
