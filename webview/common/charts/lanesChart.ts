import type { ChartOptions } from "chart.js";
import type { Theme } from "../theme";
import { element } from "../dom";
import { axis, baseOptions, font, type Chart, type ChartKind } from "./chartjs";
import { LanesCursor } from "./lanesCursor";
import type { LaneBar, LaneBox, LanesSpec } from "./lanesSpec";
import { mountChart } from "./mountChart";

/** Pixels of a lane, by how many there are; together at most `most`. */
const laneHeight = { least: 3, usual: 20, most: 900 };
const axisSpace = 96;

/** Bars in lanes with a cursor: many thousands of them are drawn at once, on one canvas. */
export const lanesChart: ChartKind<LanesSpec> = (host, spec, theme, announce) => {
  // The first drawing comes before there is a cursor.
  const cursors: LanesCursor[] = [];
  const { frame, chart, shown, drawn } = mountChart<LanesSpec, "scatter">(host, spec, theme, {
    height: heightOf(spec),
    type: "scatter",
    data: dataOf,
    options: optionsOf,
    plugin: (now) => ({
      id: "bars",
      beforeDatasetsDraw: (on) => {
        drawBars(on, now().spec, now().theme);
      },
      afterDraw: () => {
        for (const cursor of cursors) cursor.place();
      },
    }),
  });
  const overlay = element("div", { class: "lane-cursor", "aria-hidden": "true", hidden: true });
  const tooltip = element("div", { class: "tooltip", "aria-hidden": "true", hidden: true });
  frame.append(overlay, tooltip);
  const placed = (lane: number, bar: LaneBar | null) => boxOf(chart, shown(), lane, bar);
  const cursor = new LanesCursor({ frame, outline: overlay, tooltip, spec: shown, boxOf: placed, announce });
  cursors.push(cursor);
  return {
    ...drawn,
    update: (next, nextTheme) => {
      frame.style.height = `${heightOf(next)}px`;
      drawn.update(next, nextTheme);
      cursor.place();
    },
  };
};

function heightOf({ lanes }: LanesSpec): number {
  const each = Math.min(laneHeight.usual, Math.max(laneHeight.least, laneHeight.most / Math.max(1, lanes.length)));
  return Math.max(60, Math.round(each * lanes.length)) + axisSpace;
}

/** One empty series a kind, for the legend. */
function dataOf({ kinds }: LanesSpec, theme: Theme): { datasets: never[] } {
  const datasets = kinds.map((label, kind) => ({
    label,
    data: [],
    backgroundColor: colourOf(theme, kind),
    borderColor: colourOf(theme, kind),
    pointStyle: "rect",
  }));
  return { datasets: datasets as unknown as never[] };
}

const colourOf = (theme: Theme, kind: number): string => theme.series[kind % theme.series.length]!;

function optionsOf(spec: LanesSpec, theme: Theme): ChartOptions<"scatter"> {
  const x = axis(theme, spec.x.title);
  const y = axis(theme, spec.title, false);
  const options = {
    ...baseOptions<"scatter">(theme),
    // Hit test and tooltip are our own.
    events: [],
    plugins: {
      legend: {
        display: spec.kinds.length > 1,
        align: "start",
        labels: { color: theme.foreground, font: font(theme), usePointStyle: true, boxHeight: 8 },
        onClick: () => undefined,
      },
      tooltip: { enabled: false },
    },
    scales: {
      x: {
        ...x,
        type: "linear",
        min: 0,
        max: Math.max(spec.x.max, 1e-3),
        ticks: { ...x.ticks, callback: (value: number) => spec.x.format(value) },
      },
      y: {
        ...y,
        type: "category",
        offset: true,
        labels: spec.lanes,
        ticks: { ...y.ticks, autoSkip: true, autoSkipPadding: 4 },
      },
    },
  };
  return options as unknown as ChartOptions<"scatter">;
}

/** Where a bar, or with null a whole lane, is drawn. */
function boxOf(chart: Chart, spec: LanesSpec, lane: number, bar: LaneBar | null): LaneBox {
  const { left, right, top, bottom } = chart.chartArea;
  const height = (bottom - top) / Math.max(1, spec.lanes.length);
  const place = (at: number) => chart.scales["x"]!.getPixelForValue(at);
  const gap = height > 6 ? 1 : 0;
  const from = bar === null ? left : place(bar.start);
  const to = bar === null ? right : place(bar.end);
  return { left: from, top: top + lane * height + gap, width: Math.max(1, to - from), height: height - 2 * gap };
}

function drawBars(chart: Chart, spec: LanesSpec, theme: Theme): void {
  const { ctx: pen } = chart;
  pen.save();
  for (const [lane, bars] of spec.bars.entries()) {
    let drawnTo = -Infinity;
    for (const bar of bars) {
      const box = boxOf(chart, spec, lane, bar);
      // Thousands of bars narrower than a pixel: one of them is seen.
      if (box.left + box.width < drawnTo + 0.5 && !bar.marked) continue;
      drawnTo = box.left + box.width;
      // Neighbours are told apart by a gap where there is room for one.
      const width = box.width > 3 ? box.width - 1 : box.width;
      pen.fillStyle = colourOf(theme, bar.kind);
      pen.fillRect(box.left, box.top, width, box.height);
      if (bar.marked) drawMark(pen, { ...box, width }, theme);
    }
  }
  for (const { lane, at } of spec.crosses) {
    const { top, height } = boxOf(chart, spec, lane, null);
    drawCross(pen, chart.scales["x"]!.getPixelForValue(at), top + height / 2, theme);
  }
  pen.restore();
}

/** A frame in the text's colour: another colour alone would not do for everyone. */
function drawMark(pen: CanvasRenderingContext2D, { left, top, width, height }: LaneBox, theme: Theme): void {
  pen.strokeStyle = theme.foreground;
  pen.lineWidth = 1.5;
  pen.strokeRect(left + 0.75, top + 0.75, Math.max(1, width - 1.5), Math.max(1, height - 1.5));
}

/** Dark under light, so that it stands out on every bar. */
function drawCross(pen: CanvasRenderingContext2D, x: number, y: number, theme: Theme): void {
  const arm = 5;
  for (const [colour, width] of [
    [theme.background, 6],
    [theme.warning, 2.5],
  ] as const) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    pen.moveTo(x - arm, y - arm);
    pen.lineTo(x + arm, y + arm);
    pen.moveTo(x - arm, y + arm);
    pen.lineTo(x + arm, y - arm);
    pen.stroke();
  }
}
