import { Chart, DatasetController, type CartesianScaleTypeRegistry } from "chart.js";
import type { Theme } from "../theme";
import { paintCells, type ColourDomain } from "./colourDomain";
import type { HeatmapSpec } from "./heatmapSpec";

/** The one dataset of a heatmap chart. `data` stays empty: elements per cell would make chart.js slow (845 ms a hover). */
export interface HeatmapDataset {
  data: never[];
  spec: HeatmapSpec;
  domain: ColourDomain;
  theme: Theme;
}

declare module "chart.js" {
  interface ChartTypeRegistry {
    heatmap: {
      chartOptions: object;
      datasetOptions: HeatmapDataset;
      defaultDataPoint: never;
      metaExtensions: object;
      parsedDataType: object;
      scales: keyof CartesianScaleTypeRegistry;
    };
  }
}

/**
 * Draws all cells as one image: a pixel a cell painted into an off-screen canvas, scaled up with nearest neighbour into
 * the chart area. Axes, titles and layout remain chart.js' own.
 */
export class HeatmapController extends DatasetController<"heatmap"> {
  static id = "heatmap";
  // chart.js wants a registered element, though none is ever made: there are no data points.
  static defaults = { datasetElementType: false, dataElementType: "point" };
  static overrides = { scales: { x: { type: "category", offset: true }, y: { type: "category", offset: true } } };

  private painted: { spec: HeatmapSpec; domain: ColourDomain; image: HTMLCanvasElement } | undefined;

  override update(): void {
    // Nothing to place: there are no elements. The image is painted at the first draw of a new spec.
  }

  override draw(): void {
    const { ctx, chartArea } = this.chart;
    const { spec, domain, theme } = this.getDataset() as unknown as HeatmapDataset;
    const { left, top, width, height } = chartArea;
    ctx.save();
    if (spec.nullMeaning !== null) {
      ctx.fillStyle = emptyFill(ctx, spec, chartArea, theme);
      ctx.fillRect(left, top, width, height);
    }
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.image(spec, domain), left, top, width, height);
    if (spec.crossed) crossOut(ctx, spec, chartArea, theme);
    if (spec.groups) outlineGroups(ctx, spec, chartArea, theme);
    if (spec.marked) markPositions(ctx, spec, chartArea, theme);
    ctx.restore();
  }

  private image(spec: HeatmapSpec, domain: ColourDomain): HTMLCanvasElement {
    if (this.painted?.spec === spec && this.painted.domain === domain) return this.painted.image;
    const image = document.createElement("canvas");
    image.width = Math.max(1, spec.columns.labels.length);
    image.height = Math.max(1, spec.rows.labels.length);
    const context = image.getContext("2d")!;
    const pixels = context.createImageData(image.width, image.height);
    paintCells(spec.values, domain, pixels.data);
    context.putImageData(pixels, 0, 0);
    this.painted = { spec, domain, image };
    return image;
  }
}

Chart.register(HeatmapController);

export interface Area {
  left: number;
  top: number;
  width: number;
  height: number;
}

/** The cell under a point, by arithmetic: no element is searched. Null outside the cells. */
export function cellAt(
  area: Area,
  rows: number,
  columns: number,
  x: number,
  y: number,
): { row: number; column: number } | null {
  const column = Math.floor(((x - area.left) / area.width) * columns);
  const row = Math.floor(((y - area.top) / area.height) * rows);
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}

/**
 * What cells without a value show, and what the legend shows beside their meaning: diagonal lines, or an even tone where
 * cells are so narrow that lines would look like data.
 */
export function emptyFill(
  context: CanvasRenderingContext2D,
  spec: HeatmapSpec,
  area: Area,
  theme: Theme,
): CanvasPattern | string {
  const narrowest = Math.min(area.width / spec.columns.labels.length, area.height / spec.rows.labels.length);
  return narrowest < 4 ? evenTone(theme) : hatch(context, theme);
}

/** Between the background and the colour of muted text; the ends of every colour scale are farther apart than that. */
function evenTone({ kind }: Theme): string {
  return kind === "dark" || kind === "high-contrast" ? "#4d4d4d" : "#b3b3b3";
}

function hatch(context: CanvasRenderingContext2D, theme: Theme): CanvasPattern {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d")!;
  pen.fillStyle = theme.background;
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = theme.muted;
  pen.lineWidth = 1;
  pen.beginPath();
  for (const shift of [-6, 0, 6]) {
    pen.moveTo(shift, 6);
    pen.lineTo(shift + 6, 0);
  }
  pen.stroke();
  return context.createPattern(tile, "repeat")!;
}

/** Dims crossed cells, and strikes them through where there is room for a line. */
function crossOut(ctx: CanvasRenderingContext2D, spec: HeatmapSpec, area: Area, theme: Theme): void {
  const columns = spec.columns.labels.length;
  const w = area.width / columns;
  const h = area.height / spec.rows.labels.length;
  const box = (cell: number): [number, number] => [
    area.left + (cell % columns) * w,
    area.top + Math.floor(cell / columns) * h,
  ];
  ctx.fillStyle = theme.background;
  ctx.globalAlpha = 0.7;
  for (const cell of spec.crossed!.cells) ctx.fillRect(...box(cell), w, h);
  ctx.globalAlpha = 1;
  if (Math.min(w, h) < 6) return;
  ctx.strokeStyle = theme.foreground;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (const cell of spec.crossed!.cells) {
    const [left, top] = box(cell);
    ctx.moveTo(left + 2, top + h - 2);
    ctx.lineTo(left + w - 2, top + 2);
  }
  ctx.stroke();
}

/** Draws the border of every block of cells whose row and column belong to the same group. */
function outlineGroups(ctx: CanvasRenderingContext2D, spec: HeatmapSpec, area: Area, theme: Theme): void {
  const size = spec.rows.labels.length;
  const groupOf = new Int32Array(size).fill(-1);
  spec.groups!.forEach((group, id) => group.forEach((position) => (groupOf[position] = id)));
  const inside = (row: number, column: number): boolean =>
    row >= 0 && column >= 0 && row < size && column < size && groupOf[row]! >= 0 && groupOf[row] === groupOf[column];
  const path = new Path2D();
  const w = area.width / size;
  const h = area.height / size;
  const edge = (x0: number, y0: number, x1: number, y1: number): void => {
    path.moveTo(area.left + x0 * w, area.top + y0 * h);
    path.lineTo(area.left + x1 * w, area.top + y1 * h);
  };
  for (let r = 0; r < size; r++)
    for (let c = 0; c < size; c++) {
      if (!inside(r, c)) continue;
      if (!inside(r - 1, c)) edge(c, r, c + 1, r);
      if (!inside(r + 1, c)) edge(c, r + 1, c + 1, r + 1);
      if (!inside(r, c - 1)) edge(c, r, c, r + 1);
      if (!inside(r, c + 1)) edge(c + 1, r, c + 1, r + 1);
    }
  ctx.lineCap = "square";
  // Two strokes, so that the outline stands out on every colour of the scale.
  ctx.strokeStyle = theme.background;
  ctx.lineWidth = 3;
  ctx.stroke(path);
  ctx.strokeStyle = theme.foreground;
  ctx.lineWidth = 1.25;
  ctx.stroke(path);
}

/** Short bars along the top and the right edge at marked columns and rows. */
function markPositions(ctx: CanvasRenderingContext2D, spec: HeatmapSpec, area: Area, theme: Theme): void {
  const w = area.width / spec.columns.labels.length;
  const h = area.height / spec.rows.labels.length;
  ctx.fillStyle = theme.warning;
  for (const position of spec.marked!.positions) {
    ctx.fillRect(area.left + position * w, area.top - markThickness - 1, Math.max(1, w), markThickness);
    ctx.fillRect(area.left + area.width + 1, area.top + position * h, markThickness, Math.max(1, h));
  }
}

/** Height of the bars beside the cells, pixels; the layout leaves room for them. */
export const markThickness = 5;
