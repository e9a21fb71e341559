import type { ChartOptions } from "chart.js";
import type { Theme } from "../theme";
import { axis, baseOptions, font, tooltipStyle, type Chart, type ChartKind } from "./chartjs";
import { mountChart } from "./mountChart";
import { pointCursor } from "./pointCursor";

export interface ScatterSpec {
  /** `binary`: steps of the axis are round numbers of KiB, MiB or GiB. */
  x: { title: string; format: (value: number | null) => string; binary?: boolean };
  y: { title: string; format: (value: number | null) => string; min?: number };
  /** One series a kind of point, with its own colour and marker. */
  series: readonly { label: string; points: readonly ScatterPoint[] }[];
  /** From and to, as [series, index]. */
  arrows: readonly { from: ScatterPoint; to: ScatterPoint }[];
}

export interface ScatterPoint {
  x: number;
  y: number;
  /** Half width of the interval drawn around y; null when unknown. */
  halfWidth: number | null;
  /** Safe to draw: already made visible and cut. */
  label: string;
}

const markers = ["star", "rectRot", "circle"] as const;

/** Points with error bars, and arrows between some of them. */
export const scatterChart: ChartKind<ScatterSpec> = (host, spec, theme, announce) => {
  const { frame, chart, shown, drawn } = mountChart<ScatterSpec, "scatter">(host, spec, theme, {
    height: 420,
    type: "scatter",
    data: dataOf,
    options: optionsOf,
    plugin: (now) => ({
      id: "errorBarsAndArrows",
      beforeDatasetsDraw: (chart) => {
        drawErrorBars(chart, now().spec, now().theme);
        drawArrows(chart, now().spec, now().theme);
      },
    }),
  });
  pointCursor(frame, chart, "scatter chart", announce, {
    describe: (series, index) => {
      const { label, points } = shown().series[series] ?? { label: "", points: [] };
      const point = points[index];
      return point ? [label, ...linesOf(shown(), point)].join(", ") : null;
    },
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

function dataOf(spec: ScatterSpec, theme: Theme): { datasets: never[] } {
  const datasets = spec.series.map(({ label, points }, i) => ({
    label,
    data: points,
    borderColor: theme.series[i % theme.series.length]!,
    backgroundColor: theme.series[i % theme.series.length]!,
    pointStyle: markers[i % markers.length],
    radius: i === 0 ? 7 : 5,
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
  const range = spec.x.binary === true ? binaryRange(points.map(({ x }) => x)) : null;
  const options = {
    ...baseOptions<"scatter">(theme),
    // Points come in no order of x, which `parsing: false` would promise too.
    normalized: false,
    plugins: {
      legend: {
        align: "start",
        labels: { color: theme.foreground, font: font(theme), usePointStyle: true, boxHeight: 8 },
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
        type: "linear",
        ...(range ? { min: range.min, max: range.max } : { grace: "8%" }),
        ticks: {
          ...xAxis.ticks,
          ...(range ? { stepSize: range.step } : {}),
          callback: (value: number) => spec.x.format(value),
        },
      },
      y: {
        ...yAxis,
        type: "linear",
        ...(spec.y.min === undefined ? {} : { min: spec.y.min }),
        // chart.js does not know of the error bars: the axis must reach their ends.
        suggestedMin: Math.min(...points.map(({ y, halfWidth }) => y - (halfWidth ?? 0))),
        suggestedMax: Math.max(...points.map(({ y, halfWidth }) => y + (halfWidth ?? 0))),
        grace: "5%",
        ticks: { ...yAxis.ticks, callback: (value: number) => spec.y.format(value) },
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

function drawErrorBars(chart: Chart, spec: ScatterSpec, theme: Theme): void {
  const { x, y } = chart.scales;
  if (!x || !y) return;
  const { ctx } = chart;
  ctx.save();
  ctx.lineWidth = 1.25;
  spec.series.forEach(({ points }, i) => {
    ctx.strokeStyle = theme.series[i % theme.series.length]!;
    ctx.beginPath();
    for (const point of points) {
      if (point.halfWidth === null) continue;
      const at = x.getPixelForValue(point.x);
      const low = y.getPixelForValue(point.y - point.halfWidth);
      const high = y.getPixelForValue(point.y + point.halfWidth);
      ctx.moveTo(at, low);
      ctx.lineTo(at, high);
      for (const end of [low, high]) {
        ctx.moveTo(at - 5, end);
        ctx.lineTo(at + 5, end);
      }
    }
    ctx.stroke();
  });
  ctx.restore();
}

function drawArrows(chart: Chart, spec: ScatterSpec, theme: Theme): void {
  const { x, y } = chart.scales;
  if (!x || !y) return;
  const { ctx } = chart;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = theme.muted;
  ctx.lineWidth = 1.25;
  for (const { from, to } of spec.arrows) {
    const [x0, y0, x1, y1] = [
      x.getPixelForValue(from.x),
      y.getPixelForValue(from.y),
      x.getPixelForValue(to.x),
      y.getPixelForValue(to.y),
    ];
    const length = Math.hypot(x1 - x0, y1 - y0);
    if (length < 14) continue;
    const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
    // Stops short of the marker, which would hide the head.
    const [tipX, tipY] = [x1 - ux * 8, y1 - uy * 8];
    ctx.beginPath();
    ctx.moveTo(x0 + ux * 8, y0 + uy * 8);
    ctx.lineTo(tipX, tipY);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(tipX, tipY);
    ctx.lineTo(tipX - ux * 8 - uy * 4, tipY - uy * 8 + ux * 4);
    ctx.lineTo(tipX - ux * 8 + uy * 4, tipY - uy * 8 - ux * 4);
    ctx.fill();
  }
  ctx.restore();
}
