import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { StoredParameters } from "../model/storedParameters";
import type { TensorSource } from "../checkpoint/tensorSource";
import { factoredProjections } from "./editing/factoredSize";
import { projectionOf } from "./editing/factoredTensors";
import { compressedTensors, type CompressedLayer } from "./layer/compressedTensors";
import { outcomeOf } from "./merging/applyMerging";
import { forecastOf, type MethodContext } from "./methods";
import { moeLayers } from "../model/moeLayers";
import { narrowedDescription, narrowedShapes } from "./neurons/narrowedConfig";
import { quantisedLayouts, requireUnquantised } from "./quantising/quantisationPlan";
import { replacesByConstants } from "./pruning/constants";
import { pruneTensors } from "./pruning/pruneTensors";
import type { CompressionPlan, EditingPlan, MergingPlan, PruningPlan } from "../../protocol/plan";
import type { CompressOptions } from "../../protocol/recipe";
import { byteLengthOf, elementCount } from "../tensor/dtype";

export interface CheckpointSize {
  parameters: number;
  bytes: number;
}

type Model = Pick<MethodContext, "checkpoint" | "family" | "description">;

/** Parameters and bytes of a checkpoint's tensors; packed words count as the numbers that they hold, scales do not count. */
export function checkpointSize(checkpoint: Pick<Checkpoint, "tensors" | "config">): CheckpointSize {
  const entries = [...checkpoint.tensors.values()];
  const stored = new StoredParameters(checkpoint);
  return { ...sizeOf(entries), parameters: entries.reduce((sum, entry) => sum + stored.of(entry), 0) };
}

/** The same of what copies parts of it: each part stands for its share of the tensor's parameters. */
function copiedSize(checkpoint: Checkpoint, sources: readonly TensorSource[]): CheckpointSize {
  const stored = new StoredParameters(checkpoint);
  let parameters = 0;
  for (const { parts } of sources) {
    for (const part of parts) {
      if (part.kind === "copy" && part.byteLength > 0)
        parameters += (stored.of(part.entry) * part.byteLength) / part.entry.byteLength;
    }
  }
  return { ...sizeOf(sources), parameters: Math.round(parameters) };
}

/**
 * Size of the checkpoint that a method would write, before it has planned anything. Exact where the ratio alone decides
 * it, which is everywhere but TD-MoE's factored output: there it is the budget, which the ranks meet to within one.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function compressedSize(model: Model, compress: CompressOptions): CheckpointSize {
  return plannedSize(model, forecastOf(compress.method).anyPlan(model.description, compress));
}

/** Size of the checkpoint that a plan gives. Exact: all experts of a layer have the same shapes. */
export function plannedSize(model: Model, plan: CompressionPlan): CheckpointSize {
  switch (plan.paradigm) {
    case "pruning":
      if (replacesByConstants(plan)) return sizeWithConstants(model, plan);
      return copiedSize(model.checkpoint, pruneTensors(model.checkpoint, model.family, model.description, plan));
    case "merging":
      return sizeOf(mergedTensors(model.checkpoint, model.family, model.description, plan));
    case "editing":
      return editedSize(model, plan);
    case "quantisation":
      requireUnquantised(model.checkpoint);
      return {
        parameters: checkpointSize(model.checkpoint).parameters,
        bytes: sizeOf(quantisedLayouts(model.checkpoint, model.description, plan)).bytes,
      };
    case "sparsity":
    case "router":
      return checkpointSize(model.checkpoint);
    case "neurons": {
      const { checkpoint, family, description } = model;
      narrowedDescription(checkpoint, family, description, plan);
      return sizeOf([...narrowedShapes(checkpoint, description, plan).values()]);
    }
  }
}

/** The tensors as they will be written, with stored experts in place of merged ones, which have the same shapes. */
export function mergedTensors(
  checkpoint: Checkpoint,
  family: Model["family"],
  description: Model["description"],
  plan: MergingPlan,
): TensorSource[] {
  const layers = moeLayers(description).map(({ layer, moe }): [number, CompressedLayer] => {
    const outcome = outcomeOf(plan, plan.layers[String(layer)]!.groups, moe);
    const experts = outcome.experts.map(({ source }) => ({ source, stagedAs: null }));
    return [layer, { outcome: { ...outcome, experts }, staged: new Map() }];
  });
  return compressedTensors(checkpoint, family, description, new Map(layers));
}

/** Each expert that leaves becomes one vector. */
function sizeWithConstants({ checkpoint, description }: Model, plan: PruningPlan): CheckpointSize {
  const vectors: TensorEntry["shape"][] = [];
  const leaving = new Set<string>();
  for (const { layer, moe } of moeLayers(description)) {
    const { kept } = plan.layers[String(layer)]!;
    for (let e = 0; e < moe.numExperts; e++) {
      if (kept.includes(e) || moe.storage.kind !== "per-expert") continue;
      leaving.add(`${moe.storage.prefix}${e}.`);
      vectors.push([description.hiddenSize]);
    }
  }
  const entries = [...checkpoint.tensors.values()];
  const isLeaving = (name: string) => leaving.has(name.slice(0, name.lastIndexOf(".", name.lastIndexOf(".") - 1) + 1));
  const { dtype } = entries.find(({ name }) => isLeaving(name)) ?? { dtype: "BF16" as const };
  return sizeOf([...entries.filter(({ name }) => !isLeaving(name)), ...vectors.map((shape) => ({ dtype, shape }))]);
}

/** Dense output has the size it had; factored output has factors in place of whole matrices. */
function editedSize({ checkpoint, description }: Model, plan: EditingPlan): CheckpointSize {
  const size = checkpointSize(checkpoint);
  const layers = new Map(moeLayers(description).map(({ layer, moe }) => [layer, moe]));
  for (const { layer, projection, parameters } of factoredProjections(plan, description)) {
    const { experts } = layers.get(layer)!;
    const { shape, dtype } = projectionOf(experts[0]!, projection).weight;
    const whole = experts.length * elementCount(shape);
    size.parameters += parameters - whole;
    size.bytes += byteLengthOf(dtype, [parameters]) - byteLengthOf(dtype, [whole]);
  }
  return size;
}

function sizeOf(tensors: readonly Pick<TensorSource, "dtype" | "shape">[]): CheckpointSize {
  return {
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: tensors.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, shape), 0),
  };
}
