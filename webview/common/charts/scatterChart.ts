import type { ChartOptions, LegendItem } from "chart.js";
import type { Theme } from "../theme";
import { tickLabels, uprightScale, intervalLow } from "./axis";
import { axis, baseOptions, font, tooltipStyle, type Chart, type ChartKind } from "./chartjs";
import { mountChart } from "./mountChart";
import { pointCursor } from "./pointCursor";
import { t } from "../translate";

export interface ScatterSpec {
  /** `binary`: steps of the axis are round numbers of KiB, MiB or GiB. `log`: for values above 0 only. */
  x: { title: string; format: (value: number | null) => string; binary?: boolean; log?: boolean };
  y: { title: string; format: (value: number | null) => string; min?: number; log?: boolean };
  /** One series a kind of point: the colour says which method, the marker which stage. */
  series: readonly ScatterSeries[];
  arrows: readonly { from: ScatterPoint; to: ScatterPoint }[];
  /** Points that no other beats in both directions, joined by a dashed line. */
  front: readonly ScatterPoint[];
  /** Enter or a click on a point. */
  open?: (series: number, index: number) => void;
}

export interface ScatterSeries {
  label: string;
  /** Index into the theme's colours. */
  colour: number;
  marker: "star" | "rectRot" | "circle";
  points: readonly ScatterPoint[];
}

export interface ScatterPoint {
  x: number;
  y: number;
  /** Half width of the interval drawn around y; null when unknown. */
  halfWidth: number | null;
  /** Safe to draw: already made visible and cut. */
  label: string;
  /** Drawn beside the marker where nothing lies in the way. */
  short: string;
}

/** Points with error bars and labels, arrows between some of them, and the front. */
export const scatterChart: ChartKind<ScatterSpec> = (host, spec, theme, announce) => {
  const { frame, chart, shown, drawn } = mountChart<ScatterSpec, "scatter">(host, spec, theme, {
    height: 420,
    type: "scatter",
    data: dataOf,
    options: optionsOf,
    plugin: (now) => ({
      id: "errorBarsAndArrows",
      beforeDatasetsDraw: (chart) => {
        drawFront(chart, now().spec, now().theme);
        drawErrorBars(chart, now().spec, now().theme);
        drawArrows(chart, now().spec, now().theme);
      },
      afterDatasetsDraw: (chart) => {
        drawLabels(chart, now().spec, now().theme);
      },
    }),
  });
  pointCursor(frame, chart, t("scatter chart"), announce, {
    describe: (series, index) => {
      const { label, points } = shown().series[series] ?? { label: "", points: [] };
      const point = points[index];
      return point ? [label, ...linesOf(shown(), point)].join(", ") : null;
    },
    select: (series, index) => shown().open?.(series, index),
  });
  return drawn;
};

function linesOf(spec: ScatterSpec, point: ScatterPoint): string[] {
  const interval = point.halfWidth === null ? "" : ` ± ${spec.y.format(point.halfWidth)}`;
  return [
    point.label,
    `${spec.x.title}: ${spec.x.format(point.x)}`,
    `${spec.y.title}: ${spec.y.format(point.y)}${interval}`,
  ];
}

const colourOf = (theme: Theme, { colour }: ScatterSeries): string => theme.series[colour % theme.series.length]!;

function dataOf(spec: ScatterSpec, theme: Theme): { datasets: never[] } {
  const datasets = spec.series.map((series) => ({
    label: series.label,
    data: series.points,
    borderColor: colourOf(theme, series),
    // Open before, filled after: the two differ without colour too.
    backgroundColor: series.marker === "rectRot" ? theme.background : colourOf(theme, series),
    pointStyle: series.marker,
    radius: series.marker === "star" ? 7 : 5,
    borderWidth: 2,
    hoverRadius: 8,
    clip: 12,
  }));
  return { datasets: datasets as unknown as never[] };
}

function optionsOf(spec: ScatterSpec, theme: Theme): ChartOptions<"scatter"> {
  const xAxis = axis(theme, spec.x.title);
  const yAxis = axis(theme, spec.y.title);
  const points = spec.series.flatMap((series) => series.points);
  const range = spec.x.binary === true && spec.x.log !== true ? binaryRange(points.map(({ x }) => x)) : null;
  const options = {
    ...baseOptions<"scatter">(theme),
    // Points come in no order of x, which `parsing: false` would promise too.
    normalized: false,
    onClick: (_event: unknown, hit: { datasetIndex: number; index: number }[]) => {
      if (hit[0]) spec.open?.(hit[0].datasetIndex, hit[0].index);
    },
    plugins: {
      legend: {
        align: "start",
        labels: {
          color: theme.foreground,
          font: font(theme),
          usePointStyle: true,
          boxHeight: 8,
          filter: (item: LegendItem) => (spec.series[item.datasetIndex!]?.points.length ?? 0) > 0,
        },
        onClick: () => undefined,
      },
      tooltip: {
        ...tooltipStyle(theme),
        callbacks: { label: (item: { raw: unknown }) => linesOf(spec, item.raw as ScatterPoint) },
      },
    },
    scales: {
      x: {
        ...xAxis,
        type: spec.x.log === true ? "logarithmic" : "linear",
        ...(range ? { min: range.min, max: range.max } : { grace: "8%" }),
        ticks: {
          ...xAxis.ticks,
          ...(range ? { stepSize: range.step } : {}),
          callback: tickLabels(spec.x.format),
        },
      },
      y: {
        ...yAxis,
        ...uprightScale(spec.y.log),
        ...(spec.y.min === undefined || spec.y.log === true ? {} : { min: spec.y.min }),
        // chart.js does not know of the error bars: the axis must reach their ends.
        suggestedMin: Math.min(...points.map((point) => intervalLow(point.y, point.halfWidth, spec.y))),
        suggestedMax: Math.max(...points.map(({ y, halfWidth }) => y + (halfWidth ?? 0))),
        grace: "5%",
        ticks: { ...yAxis.ticks, callback: tickLabels(spec.y.format) },
      },
    },
  };
  return options as unknown as ChartOptions<"scatter">;
}

/** Ends and steps of 1, 2 or 5 times a power of ten in the binary unit that fits, about six steps over the values. */
function binaryRange(values: readonly number[]): { min: number; max: number; step: number } {
  const low = Math.min(...values);
  const high = Math.max(...values, 1);
  const rough = Math.max((high - low) / 6, high / 20);
  const unit = 1024 ** Math.floor(Math.log(high) / Math.log(1024));
  const ten = 10 ** Math.floor(Math.log10(rough / unit));
  const step = unit * ten * ([1, 2, 5, 10].find((digit) => digit * ten * unit >= rough) ?? 10);
  // A quarter of a step keeps markers off the frame.
  return {
    min: Math.max(0, Math.floor(low / step - 0.25) * step),
    max: Math.ceil(high / step + 0.25) * step,
    step,
  };
}

/** Runs `draw` with the pen and the way from values to pixels; the pen is left as it was. */
function onPlot(
  chart: Chart,
  draw: (pen: CanvasRenderingContext2D, place: (x: number, y: number) => [number, number]) => void,
): void {
  const { x, y } = chart.scales;
  if (!x || !y) return;
  chart.ctx.save();
  draw(chart.ctx, (atX, atY) => [x.getPixelForValue(atX), y.getPixelForValue(atY)]);
  chart.ctx.restore();
}

function drawFront(chart: Chart, { front }: ScatterSpec, theme: Theme): void {
  onPlot(chart, (pen, place) => {
    pen.strokeStyle = theme.muted;
    pen.setLineDash([3, 4]);
    pen.beginPath();
    for (const point of front) pen.lineTo(...place(point.x, point.y));
    pen.stroke();
  });
}

function drawErrorBars(chart: Chart, spec: ScatterSpec, theme: Theme): void {
  onPlot(chart, (pen, place) => {
    pen.lineWidth = 1.25;
    for (const series of spec.series) {
      pen.strokeStyle = colourOf(theme, series);
      pen.beginPath();
      for (const point of series.points) {
        const { x, y, halfWidth } = point;
        if (halfWidth === null) continue;
        const [at, low] = place(x, intervalLow(point.y, point.halfWidth, spec.y));
        const [, high] = place(x, y + halfWidth);
        pen.moveTo(at, low);
        pen.lineTo(at, high);
        for (const end of [low, high]) {
          pen.moveTo(at - 5, end);
          pen.lineTo(at + 5, end);
        }
      }
      pen.stroke();
    }
  });
}

function drawArrows(chart: Chart, { arrows }: ScatterSpec, theme: Theme): void {
  onPlot(chart, (pen, place) => {
    pen.strokeStyle = pen.fillStyle = theme.muted;
    pen.lineWidth = 1.25;
    for (const { from, to } of arrows) {
      const [[x0, y0], [x1, y1]] = [place(from.x, from.y), place(to.x, to.y)];
      const length = Math.hypot(x1 - x0, y1 - y0);
      if (length < 14) continue;
      const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
      // Stops short of the marker, which would hide the head.
      const [tipX, tipY] = [x1 - ux * 8, y1 - uy * 8];
      pen.beginPath();
      pen.moveTo(x0 + ux * 8, y0 + uy * 8);
      pen.lineTo(tipX, tipY);
      pen.stroke();
      pen.beginPath();
      pen.moveTo(tipX, tipY);
      pen.lineTo(tipX - ux * 8 - uy * 4, tipY - uy * 8 + ux * 4);
      pen.lineTo(tipX - ux * 8 + uy * 4, tipY - uy * 8 - ux * 4);
      pen.fill();
    }
  });
}

/** Each label right of its marker, or left of it, where no other label lies; else it is left to the tooltip. */
function drawLabels(chart: Chart, spec: ScatterSpec, theme: Theme): void {
  const { left, right } = chart.chartArea;
  const taken: { x: number; y: number; width: number }[] = [];
  onPlot(chart, (pen, place) => {
    pen.fillStyle = theme.foreground;
    pen.font = `${theme.fontSize - 1}px ${theme.fontFamily}`;
    pen.textBaseline = "middle";
    // Axes, arrows and the front's line pass behind labels.
    pen.strokeStyle = theme.background;
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    const height = theme.fontSize + 2;
    for (const { x: atX, y: atY, short } of spec.series.flatMap(({ points }) => points)) {
      const [x, y] = place(atX, atY);
      const { width } = pen.measureText(short);
      const free = [x + 9, x - 9 - width].find(
        (start) =>
          start >= left &&
          start + width <= right &&
          taken.every((t) => Math.abs(t.y - y) >= height || start >= t.x + t.width || start + width <= t.x),
      );
      if (short === "" || free === undefined) continue;
      taken.push({ x: free, y, width });
      pen.strokeText(short, free, y);
      pen.fillText(short, free, y);
    }
  });
}
