import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import { copyRows, copyTensor, type ByteSource, type TensorSource } from "../../checkpoint/tensorSource";
import { RerouteError } from "../../../protocol/errors";
import type { PruningPlan } from "../../../protocol/plan";
import type { ModelDescription, MoeDescription } from "../../model/description";
import type { ModelFamily } from "../../model/family";
import { byteLengthOf } from "../../tensor/dtype";
import { moeLayers } from "../../model/moeLayers";
import { predictionLayers, slicedTensors } from "../plan/predictionLayers";

/**
 * The tensors of a pruned checkpoint, as ranges of the original's bytes: kept experts get their position in the plan's
 * list as new id, router rows and everything else with one entry per expert is sliced likewise, all other tensors are
 * copied. Layers for multi-token prediction lose the same experts as the last sparse layer, or those that the plan names
 * under their own number. Nothing is decoded.
 *
 * The plan must have passed validatePlan.
 * @throws RerouteError `checkpoint/missing-tensor` where a kept expert lacks a tensor that others have
 */
export function pruneTensors(
  checkpoint: Checkpoint,
  family: ModelFamily,
  description: ModelDescription,
  plan: PruningPlan,
): TensorSource[] {
  const decoder = moeLayers(description).map(({ layer, moe }) => ({ layer, moe, like: layer, rename: undefined }));
  const layers = [...decoder, ...predictionLayers(description)].map(({ layer, moe, like, rename }) => {
    const { kept } = (plan.layers[String(layer)] ?? plan.layers[String(like)])!;
    return { moe, kept, sliced: slicedTensors(family, like, moe, rename) };
  });
  const sources: TensorSource[] = [];
  for (const entry of checkpoint.tensors.values()) {
    const own = layers.find(({ moe, sliced }) => sliced.has(entry.name) || expertIdOf(entry.name, moe) !== null);
    if (!own) sources.push(copyTensor(entry));
    else if (own.sliced.has(entry.name)) sources.push(copySlices(entry, own.kept, own.sliced.get(entry.name)!));
    else {
      const { id, prefix, suffix } = expertIdOf(entry.name, own.moe)!;
      const position = own.kept.indexOf(id);
      if (position >= 0) sources.push(copyTensor(entry, `${prefix}${position}${suffix}`));
    }
  }
  return sources;
}

/** `<prefix><id><suffix>` of a tensor that belongs to one expert of this layer; also scales and biases not named apart. */
function expertIdOf(name: string, moe: MoeDescription): { id: number; prefix: string; suffix: string } | null {
  if (moe.storage.kind !== "per-expert" || !name.startsWith(moe.storage.prefix)) return null;
  const { prefix } = moe.storage;
  const match = /^(0|[1-9]\d*)(\..*)$/.exec(name.slice(prefix.length));
  return match ? { id: Number(match[1]), prefix, suffix: match[2]! } : null;
}

/** Entries `kept` of one axis. Along the first axis these are whole rows; along others, runs inside each outer index. */
export function copySlices(entry: TensorEntry, kept: readonly number[], axis: number): TensorSource {
  if (axis === 0) return copyRows(entry, kept);
  const { shape, dtype } = entry;
  const runBytes = byteLengthOf(dtype, shape.slice(axis + 1));
  const outer = shape.slice(0, axis).reduce((product, size) => product * size, 1);
  const along = shape[axis] ?? 0;
  if (kept.some((id) => id >= along) || !Number.isInteger(runBytes)) {
    throw new RerouteError(
      "checkpoint/shape-mismatch",
      `The tensor ${JSON.stringify(entry.name)} has shape [${shape.join(", ")}], too small on axis ${axis} for the experts that the plan keeps`,
    );
  }
  const parts = Array.from({ length: outer }, (_, o) => o).flatMap((o) =>
    kept.map((id): ByteSource => ({
      kind: "copy",
      entry,
      byteOffset: (o * along + id) * runBytes,
      byteLength: runBytes,
    })),
  );
  return { name: entry.name, dtype, shape: shape.map((size, i) => (i === axis ? kept.length : size)), parts };
}
