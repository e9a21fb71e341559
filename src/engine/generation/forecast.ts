import type { GenerationForecast } from "../../protocol/generation";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { measureReading } from "../execution/measureDisk";
import { allViewsIn } from "../execution/weightViews";
import type { ModelDescription } from "../model/description";
import { dtypeBits, elementCount } from "../tensor/dtype";
import type { DecodingPlan } from "./decodingPlan";

/**
 * What a token costs before the first one: where the weights do not fit the memory that is free, those that a step reads
 * come from the disk each time. The embedding is not counted: a step reads a row of it a sequence.
 */
export function forecastGeneration(
  checkpoint: Checkpoint,
  { layers, finalNorm, head }: ModelDescription,
  plan: DecodingPlan,
  sequences: number,
  freeBytes: number,
  bytesPerSecond: (checkpoint: Checkpoint) => number = measureReading,
): GenerationForecast {
  const rows = Math.min(plan.rows, sequences);
  const all = bytesIn([layers, finalNorm, head]);
  const unread = layers.reduce((sum, { feedForward }) => {
    if (feedForward.kind === "mlp" || plan.expertsPerGraph !== 1) return sum;
    const { experts, numExperts, numExpertsPerToken } = feedForward;
    // As many experts as have no token where all are equally likely; routing favours some, so more stay unread.
    return sum + bytesIn(experts) * (1 - numExpertsPerToken / numExperts) ** rows;
  }, 0);
  const stepBytes = all - unread;
  const inMemory = plan.keepFloat32Weights || all <= freeBytes;
  return {
    ...{ sequences, batchRows: rows, cacheBytesPerSequence: plan.pastBytesPerSequence, stepBytes },
    secondsPerStep: inMemory ? null : stepBytes / bytesPerSecond(checkpoint),
  };
}

/** Stored bytes of the weights in a description, each once. */
function bytesIn(part: unknown): number {
  const views = new Map(allViewsIn(part).map((view) => [`${view.tensor}@${view.offset}`, view]));
  return [...views.values()].reduce((sum, { shape, dtype }) => sum + (elementCount(shape) * dtypeBits[dtype]) / 8, 0);
}
