import type { CompressionPlan } from "../../protocol/plan";
import type { Checkpoint, Shard, TensorEntry } from "../checkpoint/checkpoint";
import type { TensorLayout } from "../checkpoint/headerFormat";
import { describeModel } from "../model/families";
import type { ModelFamily } from "../model/family";
import type { ModelDescription } from "../model/description";
import { byteLengthOf } from "../tensor/dtype";
import { compressedConfig } from "./compressedConfig";
import { describedBy } from "./compressedDescription";
import { mergedTensors, type CheckpointSize } from "./plannedSize";
import { narrowedShapes } from "./neurons/narrowedConfig";
import { replacesByConstants } from "./pruning/constants";
import { pruneTensors } from "./pruning/pruneTensors";
import { quantisedLayouts } from "./quantising/quantisationPlan";

/** A checkpoint that is not written yet, as far as its headers say it. */
export interface PredictedModel extends Model {
  /** Of a checkpoint without bytes: of what it is made from. */
  fingerprint: string;
  size: CheckpointSize;
  /** Why nothing more can be compressed, as a sentence without its stop; its tensors are then those that it had before. */
  closed?: string;
}

interface Model {
  checkpoint: Checkpoint;
  family: ModelFamily;
  description: ModelDescription;
}

/** Where tensors lie that are not written yet; nothing may read them. */
const unwritten: Shard = { name: "not written yet", realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };

/**
 * The checkpoint that a plan will give, as far as its headers say it: config.json, names, dtypes and shapes as they will be
 * written, described as they will be read. It has no bytes.
 *
 * @throws RerouteError what the family raises for what could not be read back
 */
export function predictedModel(
  model: Model & { fingerprint: string },
  plan: CompressionPlan,
  size: CheckpointSize,
  directory: string,
): PredictedModel {
  const { checkpoint, family, description, fingerprint } = model;
  const closed = closedBy(plan);
  if (closed !== null) {
    const left = describedBy(description, plan);
    return { checkpoint: { ...checkpoint, directory }, family, description: left, fingerprint, size, closed };
  }
  const config = compressedConfig(checkpoint, family, description, plan);
  const predicted = checkpointToCome(directory, config, layoutsOf(model, plan));
  return { checkpoint: predicted, ...describeModel(predicted), fingerprint, size };
}

/** A checkpoint without bytes. */
export function checkpointToCome(
  directory: string,
  config: Checkpoint["config"],
  layouts: Iterable<Pick<TensorLayout, "name" | "dtype" | "shape">>,
): Checkpoint {
  const tensors = new Map<string, TensorEntry>();
  for (const { name, dtype, shape } of layouts) {
    const byteLength = byteLengthOf(dtype, shape);
    tensors.set(name, { name, dtype, shape, shard: unwritten, byteOffset: 0, byteLength });
  }
  return { directory, config, shards: [], tensors };
}

function layoutsOf(
  { checkpoint, family, description }: Model,
  plan: CompressionPlan,
): Iterable<TensorLayout | TensorEntry> {
  switch (plan.paradigm) {
    case "pruning":
      return pruneTensors(checkpoint, family, description, plan);
    case "merging":
      return mergedTensors(checkpoint, family, description, plan);
    case "quantisation":
      return quantisedLayouts(checkpoint, description, plan);
    case "neurons":
      return narrowedShapes(checkpoint, description, plan).values();
    case "editing":
    case "sparsity":
    case "router":
      return checkpoint.tensors.values();
  }
}

/** What is left where experts are no longer matrices that a method could work on; null where they are. */
function closedBy(plan: CompressionPlan): string | null {
  const by = (left: string, instead: string) =>
    `${plan.method} leaves ${left} in place of experts, which no later step can compress: make it the last that does${instead}`;
  if (plan.paradigm === "editing" && plan.output === "factored") return by("factors", ", or use output=dense");
  return plan.paradigm === "pruning" && replacesByConstants(plan) ? by("constants", "") : null;
}
