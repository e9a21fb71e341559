import type { HeatmapSpec } from "./charts/heatmapSpec";

/** The same quantity of another run. */
export interface OtherMap {
  name: string;
  values: HeatmapSpec["values"];
  rows: HeatmapSpec["rows"];
  columns: HeatmapSpec["columns"];
}

/** a - b; null where one of them is. */
export function minus(a: readonly (number | null)[], b: readonly (number | null)[]): (number | null)[] {
  return a.map((value, i) => {
    const other = b[i] ?? null;
    return value === null || other === null ? null : value - other;
  });
}

/** Ends of a scale that holds all runs' values; ends that the page has fixed hold all of them too. */
export function sharedScale(
  { values, colours }: Pick<HeatmapSpec, "values" | "colours">,
  others: readonly Pick<OtherMap, "values">[],
): { min: number; max: number; logMin: number } | object {
  let min = colours.min ?? Infinity;
  let max = colours.max ?? -Infinity;
  let logMin = Infinity;
  for (const list of [values, ...others.map((other) => other.values)])
    for (const value of list) {
      if (value === null) continue;
      min = Math.min(min, value);
      max = Math.max(max, value);
      if (value > 0) logMin = Math.min(logMin, value);
    }
  return min <= max ? { min, max, logMin } : {};
}
