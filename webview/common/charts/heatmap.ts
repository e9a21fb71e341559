import type { ChartOptions } from "chart.js";
import { element } from "../dom";
import type { Theme } from "../theme";
import { axis, baseOptions, Chart, type ChartKind, type Drawn } from "./chartjs";
import { colourBar, colourBarSpace, legendSpace } from "./colourBar";
import { colourDomain, type ColourDomain } from "./colourDomain";
import { markThickness, type HeatmapDataset } from "./heatmapController";
import { HeatmapCursor } from "./heatmapCursor";
import type { HeatmapSpec } from "./heatmapSpec";

const maxHeight = 640;
const axisSpace = 64;

/** A matrix as coloured cells, with cursor, tooltip, colour bar and legend. */
export const heatmap: ChartKind<HeatmapSpec> = (host, spec, theme, announce): Drawn<HeatmapSpec> => {
  const canvas = element("canvas", { role: "img", "aria-hidden": "true" });
  const frame = element("div", { class: "plot-frame" }, canvas);
  host.append(frame);
  setHeight(frame, spec);
  const cursor = new HeatmapCursor(frame, spec, theme, announce);
  const domain = colourDomain(spec.values, spec.colours);
  const chart = new Chart<"heatmap">(canvas, {
    type: "heatmap",
    data: dataOf(spec, domain, theme),
    options: optionsOf(spec, domain, theme),
    plugins: [
      colourBar,
      {
        id: "cursorArea",
        afterDraw: ({ chartArea }) => {
          cursor.resize(chartArea);
        },
      },
    ],
  });
  return {
    canvas,
    update: (next, nextTheme) => {
      setHeight(frame, next);
      const nextDomain = colourDomain(next.values, next.colours);
      chart.data = dataOf(next, nextDomain, nextTheme);
      chart.options = optionsOf(next, nextDomain, nextTheme);
      cursor.show(next, nextTheme);
      chart.update("none");
    },
    destroy: () => {
      chart.destroy();
      frame.remove();
    },
  };
};

function dataOf(spec: HeatmapSpec, domain: ColourDomain, theme: Theme): { datasets: never[] } {
  const dataset: HeatmapDataset = { data: [], spec, theme, domain };
  return { datasets: [dataset as never] };
}

function optionsOf(spec: HeatmapSpec, domain: ColourDomain, theme: Theme): ChartOptions<"heatmap"> {
  const category = (of: HeatmapSpec["rows"]): object => ({
    ...dense(axis(theme, of.title, false)),
    type: "category",
    offset: true,
    labels: of.labels,
  });
  const options = {
    ...baseOptions<"heatmap">(theme),
    // Hit test, tooltip and cursor are our own: chart.js need not look at the pointer.
    events: [],
    layout: {
      padding: {
        top: legendSpace(spec, theme) + (spec.marked ? markThickness + 2 : 0),
        right: colourBarSpace(domain, theme),
      },
    },
    plugins: { legend: { display: false }, tooltip: { enabled: false } },
    scales: { x: category(spec.columns), y: category(spec.rows) },
  };
  return options;
}

/** Cells are many: labels may stand closer than on a chart of lines. */
function dense(base: ReturnType<typeof axis>): object {
  return { ...base, ticks: { ...base.ticks, autoSkipPadding: 4 } };
}

/** Rows get 3 to 18 pixels each; square matrices as much height as width allows. */
function setHeight(frame: HTMLElement, spec: HeatmapSpec): void {
  const rows = spec.rows.labels.length;
  if (spec.square === true) {
    frame.classList.add("compact");
    frame.style.height = `${Math.min(maxHeight, Math.max(260, frame.clientWidth - 60))}px`;
    return;
  }
  frame.style.height = `${Math.min(maxHeight, Math.max(150, rows * Math.min(18, Math.max(3, 560 / rows))) + axisSpace)}px`;
}
