import type { Checkpoint } from "../checkpoint/checkpoint";
import type { TensorSource } from "../checkpoint/tensorSource";
import { withoutGroupLimits } from "../compression/plan/groupLimits";
import { keptCount, groupsOf } from "../compression/plan/keptCount";
import { moeLayers } from "../compression/plan/moeLayers";
import { selectKept } from "../compression/plan/selectKept";
import { pruneTensors } from "../compression/pruning/pruneTensors";
import type { PruningPlan } from "../../protocol/plan";
import { byteLengthOf, elementCount } from "../tensor/dtype";
import type { OpenModel } from "./work";

export interface CheckpointSize {
  parameters: number;
  bytes: number;
}

/** Stored numbers and bytes of a checkpoint's tensors. */
export function checkpointSize({ tensors }: Checkpoint): CheckpointSize {
  return sizeOf([...tensors.values()]);
}

/**
 * Size of the checkpoint that pruning to `keep` would write. Exact: which experts stay does not matter, because all
 * experts of a layer have the same shapes.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function prunedSize(
  { checkpoint, family, description }: OpenModel,
  keep: number,
  groupLimits: "keep" | "drop" = "keep",
): CheckpointSize {
  const layers: PruningPlan["layers"] = {};
  for (const { layer, moe: limited } of moeLayers(description)) {
    const moe = groupLimits === "drop" ? withoutGroupLimits(limited) : limited;
    const count = keptCount(keep, layer, moe);
    const scores = new Array<null>(moe.numExperts).fill(null);
    const kept = selectKept({ scores, keepEnd: "highest", count, groups: groupsOf(moe), protectedExperts: new Set() });
    layers[String(layer)] = { kept };
  }
  return plannedSize(
    { checkpoint, family, description },
    { schemaVersion: 1, paradigm: "pruning", method: "size", layers },
  );
}

/** Size of the checkpoint that a pruning plan gives. */
export function plannedSize(model: Omit<OpenModel, "fingerprint">, plan: PruningPlan): CheckpointSize {
  return sizeOf(pruneTensors(model.checkpoint, model.family, model.description, plan));
}

function sizeOf(tensors: readonly Pick<TensorSource, "dtype" | "shape">[]): CheckpointSize {
  return {
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: tensors.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, shape), 0),
  };
}
