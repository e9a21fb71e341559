import type { CheckpointCost } from "../../protocol/evaluation";
import type { HeadSource } from "../execution/headGraphs";
import { countParameters, flopsPerToken } from "../model/parameters";

/** What a checkpoint costs to keep and to run; measured figures are null until something has been run. */
export function checkpointCost({ checkpoint, description }: HeadSource, sequenceLength: number): CheckpointCost {
  const { total, active } = countParameters(description);
  return {
    parametersTotal: total,
    parametersActive: active,
    bytes: [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    flopsPerToken: flopsPerToken(description, sequenceLength),
    tokensPerSecond: null,
    peakMemoryBytes: null,
  };
}
