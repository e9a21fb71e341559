interface Point {
  x: number;
  y: number;
}

/** Updates that one smoothed value averages: a twentieth of the run, odd so that it is centred, at least 5. */
export function smoothingSpan(updates: number): number {
  return Math.max(5, 2 * Math.floor(updates / 40) + 1);
}

/**
 * Centred moving average of y. At both ends the window shrinks to what is there on both sides, so that no value is
 * shifted along x; the first and last value stay as they are.
 */
export function smoothTraining(points: readonly Point[]): Point[] {
  const half = (smoothingSpan(points.length) - 1) / 2;
  const sums = [0];
  for (const { y } of points) sums.push(sums.at(-1)! + y);
  return points.map(({ x }, i) => {
    const reach = Math.min(half, i, points.length - 1 - i);
    return { x, y: (sums[i + reach + 1]! - sums[i - reach]!) / (2 * reach + 1) };
  });
}
