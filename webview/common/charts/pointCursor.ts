import type { Chart } from "chart.js";
import type { Announce } from "./chartjs";

interface Points {
  /** What to read out for a point, or null when there is none. */
  describe: (series: number, index: number) => string | null;
  /** Enter on a point. */
  select?: (series: number, index: number) => void;
}

/**
 * The keyboard on charts of points: Left and Right move along a series, Up and Down change it, Home and End go to its
 * ends, Enter selects. The point is highlighted with its tooltip and announced.
 */
export function pointCursor(
  frame: HTMLElement,
  chart: Chart,
  roleDescription: string,
  announce: Announce,
  points: Points,
): void {
  let series = 0;
  let index = -1;
  frame.tabIndex = 0;
  frame.setAttribute("role", "application");
  frame.setAttribute("aria-roledescription", roleDescription);

  const highlight = (): void => {
    const at = chart.getDatasetMeta(series).data[index];
    const text = points.describe(series, index);
    if (!at || text === null) return;
    const active = [{ datasetIndex: series, index }];
    chart.setActiveElements(active);
    chart.tooltip?.setActiveElements(active, { x: at.x, y: at.y });
    chart.update("none");
    announce(text);
  };
  frame.addEventListener("keydown", (event) => {
    const length = (which: number): number => chart.data.datasets[which]?.data.length ?? 0;
    const seriesCount = chart.data.datasets.length;
    if (seriesCount === 0) return;
    const step = event.ctrlKey || event.metaKey ? 10 : 1;
    if (event.key === "ArrowRight") index = Math.min(length(series) - 1, index + step);
    else if (event.key === "ArrowLeft") index = Math.max(0, index - step);
    else if (event.key === "Home") index = 0;
    else if (event.key === "End") index = length(series) - 1;
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      series = (series + (event.key === "ArrowDown" ? 1 : seriesCount - 1)) % seriesCount;
      index = Math.max(0, Math.min(index, length(series) - 1));
    } else if (event.key === "Enter") {
      if (index >= 0) points.select?.(series, index);
      return;
    } else return;
    event.preventDefault();
    highlight();
  });
  frame.addEventListener("blur", () => {
    chart.setActiveElements([]);
    chart.tooltip?.setActiveElements([], { x: 0, y: 0 });
    chart.update("none");
  });
}
