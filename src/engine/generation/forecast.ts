import type { GenerationForecast } from "../../protocol/generation";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { measureReading } from "../execution/measureDisk";
import { allViewsIn } from "../execution/weightViews";
import type { ModelDescription } from "../model/description";
import { dtypeBits, elementCount } from "../tensor/dtype";
import type { DecodingPlan } from "./decodingPlan";

/**
 * What a token costs before the first one: where the weights that a step reads do not fit the memory that is free, they
 * come from the disk each time. The embedding is not counted: a step reads a row of it a sequence.
 */
export function forecastGeneration(
  checkpoint: Checkpoint,
  { layers, finalNorm, head }: ModelDescription,
  plan: DecodingPlan,
  sequences: number,
  freeBytes: number,
): GenerationForecast {
  const views = new Map(allViewsIn([layers, finalNorm, head]).map((view) => [`${view.tensor}@${view.offset}`, view]));
  const stepBytes = [...views.values()].reduce(
    (sum, { shape, dtype }) => sum + (elementCount(shape) * dtypeBits[dtype]) / 8,
    0,
  );
  const inMemory = plan.keepFloat32Weights || stepBytes <= freeBytes;
  return {
    ...{ sequences, batchRows: Math.min(plan.rows, sequences), cacheBytesPerSequence: plan.pastBytesPerSequence },
    stepBytes,
    secondsPerStep: inMemory ? null : stepBytes / measureReading(checkpoint),
  };
}
