/** What a series of repeated runs says: medians, ranges, and whether they are as claimed. */

/** A median with the lowest and the highest value. */
export interface Spread {
  median: number;
  low: number;
  high: number;
  count: number;
}

export interface SeriesPoint {
  size: number;
  /** Bytes. */
  peak: Spread;
  seconds: Spread;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, low: sorted[0]!, high: sorted.at(-1)!, count: sorted.length };
}

/** How far memory may be from flat against layers, and time from a line. */
const allowed = 0.15;

/** A series in words: medians with ranges, how far memory is from flat and time from a line, and whether that is as claimed. */
export function describeSeries(name: string, points: readonly SeriesPoint[]): string[] {
  const lowest = Math.min(...points.map(({ peak }) => peak.median));
  const highest = Math.max(...points.map(({ peak }) => peak.median));
  const fit = leastSquares(points.map(({ size, seconds }) => [size, seconds.median]));
  const off = points.map(({ size, seconds }) => seconds.median / fit(size) - 1);
  const lines = points.map(
    ({ size, peak, seconds }, i) =>
      `  ${String(size).padStart(6)}  peak ${range(peak, mebibytes)}, ${(peak.median / lowest).toFixed(2)} x the lowest;` +
      `  ${range(seconds, (value) => value.toFixed(1))} s of processor time, ${percent(off[i]!)} off the line`,
  );
  const farthest = Math.max(...off.map(Math.abs));
  const claim = (value: number) => (value <= allowed ? "within" : "NOT within") + ` ${(allowed * 100).toFixed(0)} %`;
  const memory = `the highest median is ${percent(highest / lowest - 1)} above the lowest`.replace("+", "");
  return [
    `against ${name}, medians of ${points[0]?.peak.count ?? 0} (lowest to highest):`,
    ...lines,
    // Only layers are claimed to cost no memory: experts and tokens make a layer's own arrays larger.
    `  memory: ${memory}${name === "layers" ? `, flat ${claim(highest / lowest - 1)}` : ""}`,
    `  time: at most ${percent(farthest).replace("+", "")} off the line, linear ${claim(farthest)}`,
  ];
}

function range({ median, low, high }: Spread, format: (value: number) => string): string {
  return `${format(median)} (${format(low)} to ${format(high)})`;
}

/** The line through points that is closest in relative terms: long runs must not hide what short ones do. */
function leastSquares(points: readonly (readonly [number, number])[]): (x: number) => number {
  let [w, wx, wxx, wy, wxy] = [0, 0, 0, 0, 0];
  for (const [x, y] of points) {
    const weight = 1 / y ** 2;
    w += weight;
    wx += weight * x;
    wxx += weight * x * x;
    wy += weight * y;
    wxy += weight * x * y;
  }
  const slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
  const offset = (wy - slope * wx) / w;
  return (x) => offset + slope * x;
}

/** With its sign. */
export function percent(share: number): string {
  return `${share < 0 ? "" : "+"}${(share * 100).toFixed(0)} %`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
