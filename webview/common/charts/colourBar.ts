import type { Plugin } from "chart.js";
import { decimal } from "../format";
import type { Theme } from "../theme";
import type { ColourDomain } from "./colourDomain";
import { lutSize } from "./colourScale";
import { emptyFill, type Area, type HeatmapDataset } from "./heatmapController";
import type { HeatmapSpec } from "./heatmapSpec";
import { t } from "../translate";

const barWidth = 14;
const gap = 14;

/** Between the bar and its numbers, and between those and the turned title, pixels. */
const tickGap = 4;
const titleGap = 8;

/** Room that the bar, its numbers and its turned title need at the right, pixels. */
export function colourBarSpace(domain: ColourDomain, theme: Theme): number {
  return gap + barWidth + tickGap + tickWidth(domain, theme) + titleGap + theme.fontSize + 2;
}

/** Width of the widest number beside the bar. */
function tickWidth(domain: ColourDomain, theme: Theme): number {
  measuring ??= document.createElement("canvas").getContext("2d")!;
  measuring.font = fontOf(theme);
  return Math.max(...barTicks(domain, mostTicks).map((value) => measuring!.measureText(decimal(value, 2)).width));
}

/** A canvas that is never shown: the room must be known before the chart has one. */
let measuring: CanvasRenderingContext2D | undefined;

const mostTicks = 5;

function fontOf({ fontSize, fontFamily }: Theme): string {
  return `${fontSize}px ${fontFamily}`;
}

/** Room for one line of legend above the cells: hatching, outlines and marks. */
export function legendSpace(spec: HeatmapSpec, theme: Theme): number {
  return legendEntries(spec).length > 0 ? theme.fontSize + 12 : 4;
}

/** Draws the colour bar and the legend, so that exported pictures carry them too. */
export const colourBar: Plugin<"heatmap"> = {
  id: "colourBar",
  afterDraw(chart) {
    const dataset = chart.data.datasets[0] as unknown as HeatmapDataset | undefined;
    if (!dataset) return;
    const { ctx, chartArea } = chart;
    const { spec, domain, theme } = dataset;
    ctx.save();
    ctx.font = fontOf(theme);
    // Whole pixels: rows of the bar between two would blend with the background.
    const top = Math.round(chartArea.top);
    ctx.save();
    drawBar(ctx, Math.round(chartArea.right) + gap, top, Math.round(chartArea.bottom) - top, spec, domain, theme);
    ctx.restore();
    drawLegend(ctx, chartArea, spec, theme);
    ctx.restore();
  },
};

function drawBar(
  ctx: CanvasRenderingContext2D,
  left: number,
  top: number,
  height: number,
  spec: HeatmapSpec,
  domain: ColourDomain,
  theme: Theme,
): void {
  for (let y = 0; y < height; y++) {
    const at = Math.round((1 - y / height) * (lutSize - 1)) * 3;
    ctx.fillStyle = `rgb(${domain.table[at]!}, ${domain.table[at + 1]!}, ${domain.table[at + 2]!})`;
    ctx.fillRect(left, top + y, barWidth, 1);
  }
  ctx.strokeStyle = theme.muted;
  ctx.strokeRect(left, top, barWidth, height);
  ctx.fillStyle = theme.muted;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (const value of barTicks(domain, height > 90 ? mostTicks : 2)) {
    const y = top + (1 - domain.position(value)) * height;
    ctx.fillText(decimal(value, 2), left + barWidth + tickGap, Math.min(top + height - 5, Math.max(top + 5, y)));
  }
  ctx.fillStyle = theme.foreground;
  ctx.textAlign = "center";
  const numbers = tickGap + tickWidth(domain, theme) + titleGap;
  ctx.translate(left + barWidth + numbers + theme.fontSize / 2, top + height / 2);
  ctx.rotate(Math.PI / 2);
  ctx.fillText(domain.log ? t("{0}, log scale", spec.quantity) : spec.quantity, 0, 0, Math.max(height, 120));
}

/** Evenly spaced along the bar, in the scale's own spacing. */
function barTicks(domain: ColourDomain, steps: number): number[] {
  const { min, max, log } = domain;
  if (!(max > min)) return [max];
  return Array.from({ length: steps }, (_, i) => {
    const t = i / (steps - 1);
    return log ? min * (max / min) ** t : min + t * (max - min);
  });
}

interface LegendEntry {
  text: string;
  swatch: (ctx: CanvasRenderingContext2D, theme: Theme, x: number, y: number, size: number, area: Area) => void;
}

function legendEntries(spec: HeatmapSpec): LegendEntry[] {
  const entries: LegendEntry[] = [];
  if (spec.nullMeaning !== null)
    entries.push({
      text: spec.nullMeaning,
      swatch: (ctx, theme, x, y, size, area) => {
        ctx.fillStyle = emptyFill(ctx, spec, area, theme);
        ctx.fillRect(x, y, size, size);
      },
    });
  if (spec.groups && spec.groups.length > 0)
    entries.push({
      text: t("merge group"),
      swatch: (ctx, theme, x, y, size) => {
        ctx.strokeStyle = theme.foreground;
        ctx.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
      },
    });
  if (spec.crossed && spec.crossed.cells.size > 0)
    entries.push({
      text: spec.crossed.meaning,
      swatch: (ctx, theme, x, y, size) => {
        ctx.strokeStyle = theme.foreground;
        ctx.lineWidth = 1;
        ctx.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
        ctx.beginPath();
        ctx.moveTo(x + 2, y + size - 2);
        ctx.lineTo(x + size - 2, y + 2);
        ctx.stroke();
      },
    });
  if (spec.marked && spec.marked.positions.length > 0)
    entries.push({
      text: spec.marked.meaning,
      swatch: (ctx, theme, x, y, size) => {
        ctx.fillStyle = theme.warning;
        ctx.fillRect(x, y + size / 2 - 2, size, 5);
      },
    });
  return entries;
}

function drawLegend(ctx: CanvasRenderingContext2D, area: Area, spec: HeatmapSpec, theme: Theme): void {
  const size = theme.fontSize;
  const top = 2;
  let x = area.left;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const { text, swatch } of legendEntries(spec)) {
    swatch(ctx, theme, x, top, size, area);
    ctx.fillStyle = theme.foreground;
    ctx.fillText(text, x + size + 5, top + size / 2);
    x += size + 5 + ctx.measureText(text).width + 16;
  }
}
