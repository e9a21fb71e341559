import type { CalibrateOptions } from "../../protocol/calibrateOptions";

/**
 * Learning rate of an update, counted from 0: linear warm-up over `warmup` of the updates (at least one; the first update
 * already moves), then linear decay to 0, or half a cosine down to 10 % of the peak. The published recipe is linear with
 * 3 % warm-up (arXiv 2603.02217, follow-up code); the floor of the cosine is what a re-implementation found to help.
 */
export function learningRateAt(
  update: number,
  totalUpdates: number,
  { learningRate, warmup, schedule }: Pick<CalibrateOptions, "learningRate" | "warmup" | "schedule">,
): number {
  const warmupUpdates = Math.max(1, Math.floor(totalUpdates * warmup));
  if (update < warmupUpdates) return learningRate * ((update + 1) / warmupUpdates);
  const remaining = (totalUpdates - update) / Math.max(1, totalUpdates - warmupUpdates);
  if (schedule === "linear") return learningRate * Math.max(0, remaining);
  return learningRate * (cosineFloor + (1 - cosineFloor) * 0.5 * (1 - Math.cos(Math.PI * remaining)));
}

const cosineFloor = 0.1;
