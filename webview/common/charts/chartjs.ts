/** The parts of chart.js that pages use; importing them one by one keeps the bundles small. */
import {
  BarController,
  BarElement,
  CategoryScale,
  Chart,
  Legend,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  ScatterController,
  Tooltip,
  type ChartOptions,
  type ChartType,
} from "chart.js";
import type { Theme } from "../theme";

Chart.register(
  BarController,
  BarElement,
  CategoryScale,
  Legend,
  LinearScale,
  LineController,
  LineElement,
  LogarithmicScale,
  PointElement,
  ScatterController,
  Tooltip,
);

/** A drawing in a host element. One kind of chart is a function that makes one. */
export interface Drawn<Spec> {
  readonly canvas: HTMLCanvasElement;
  update(spec: Spec, theme: Theme): void;
  destroy(): void;
}

/** Called when the cursor of a chart moves by keyboard; the figure shows and announces the text. */
export type Announce = (text: string) => void;
export type ChartKind<Spec> = (host: HTMLElement, spec: Spec, theme: Theme, announce: Announce) => Drawn<Spec>;

export function font(theme: Theme): { family: string; size: number } {
  return { family: theme.fontFamily, size: theme.fontSize };
}

/** Options that all charts share: no animation, the editor's colours and font, the given axis titles. */
export function baseOptions<T extends ChartType>(theme: Theme): ChartOptions<T> {
  const options = {
    animation: false,
    responsive: true,
    maintainAspectRatio: false,
    normalized: true,
    color: theme.foreground,
    font: font(theme),
  };
  return options as unknown as ChartOptions<T>;
}

/** Options of one axis. */
export function axis(
  theme: Theme,
  title: string,
  grid = true,
): Record<string, unknown> & { ticks: object; title: object } {
  return {
    title: { display: true, text: title, color: theme.foreground, font: font(theme) },
    ticks: { color: theme.muted, font: font(theme), maxRotation: 0, autoSkipPadding: 12 },
    grid: { display: grid, color: theme.grid },
    border: { color: theme.grid },
  };
}

/** Colours of chart.js' own tooltip. */
export function tooltipStyle(theme: Theme): Record<string, unknown> {
  return {
    backgroundColor: theme.background,
    titleColor: theme.foreground,
    bodyColor: theme.foreground,
    footerColor: theme.foreground,
    borderColor: theme.muted,
    borderWidth: 1,
    titleFont: { ...font(theme), weight: "bold" },
    bodyFont: font(theme),
    footerFont: font(theme),
    usePointStyle: true,
    boxPadding: 4,
  };
}

export { Chart };
