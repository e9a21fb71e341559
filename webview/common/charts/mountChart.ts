import type { ChartConfiguration, ChartOptions, ChartType, Plugin } from "chart.js";
import { element } from "../dom";
import type { Theme } from "../theme";
import { Chart, type Drawn } from "./chartjs";

/** What a kind of chart makes of its specification. */
export interface ChartParts<Spec, T extends ChartType> {
  /** Class of the frame, where there is one beside "plot-frame". */
  frameClass?: string;
  /** Pixels. */
  height: number;
  type: T;
  data: (spec: Spec, theme: Theme) => object;
  options: (spec: Spec, theme: Theme) => ChartOptions<T>;
  /** Draws on top or below; gets what is shown at that time. */
  plugin?: (shown: () => { spec: Spec; theme: Theme }) => Plugin<T>;
}

export interface Mounted<Spec, T extends ChartType> {
  frame: HTMLElement;
  chart: Chart<T>;
  /** What was drawn last. */
  shown: () => Spec;
  drawn: Drawn<Spec>;
}

/** A chart of chart.js in a frame of its own, drawn again whenever it gets another specification or theme. */
export function mountChart<Spec, T extends ChartType>(
  host: HTMLElement,
  spec: Spec,
  theme: Theme,
  parts: ChartParts<Spec, T>,
): Mounted<Spec, T> {
  const canvas = element("canvas", { role: "img", "aria-hidden": "true" });
  const frame = element("div", { class: ["plot-frame", parts.frameClass ?? ""].join(" ").trim() }, canvas);
  frame.style.height = `${parts.height}px`;
  host.append(frame);
  let shown = { spec, theme };
  const chart = new Chart<T>(canvas, {
    type: parts.type,
    data: parts.data(spec, theme),
    options: parts.options(spec, theme),
    plugins: parts.plugin ? [parts.plugin(() => shown)] : [],
  } as unknown as ChartConfiguration<T>);
  return {
    frame,
    chart,
    shown: () => shown.spec,
    drawn: {
      canvas,
      update: (nextSpec, nextTheme) => {
        shown = { spec: nextSpec, theme: nextTheme };
        chart.data = parts.data(nextSpec, nextTheme) as typeof chart.data;
        chart.options = parts.options(nextSpec, nextTheme);
        chart.update("none");
      },
      destroy: () => {
        chart.destroy();
        frame.remove();
      },
    },
  };
}
