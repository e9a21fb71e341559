import path from "node:path";
import type { CheckpointSummary, LayerSummary } from "../../protocol/checkpointSummary";
import { RerouteError } from "../../protocol/errors";
import { provenanceSchema } from "../../protocol/provenance";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { readConfigFile } from "../checkpoint/configFile";
import type { ModelDescription } from "./description";
import { describeModel } from "./families/index";
import { summariseLayers } from "./layerSummaries";
import { countParameters } from "./parameters";

/**
 * What a checkpoint holds, from its headers and config.json alone. Works for any checkpoint: a family, option or layout
 * that Reroute does not support is explained in `unsupportedReason` and counted by tensor names; how many parameters a
 * token meets is then known only for dense models.
 */
export async function summariseCheckpoint(checkpoint: Checkpoint): Promise<CheckpointSummary> {
  const { description, reason } = tryDescribe(checkpoint);
  const moe = description?.layers.map((layer) => layer.feedForward).find((part) => part.kind === "moe");
  const { layers, parametersTotal } = summariseLayers(checkpoint, description);
  const dtypes = countDtypes(checkpoint);
  const dense = layers.length > 0 && layers.every((layer) => layer.moe === null);
  return {
    path: checkpoint.directory,
    modelType: stringOf(checkpoint, "model_type"),
    supported: description !== null,
    unsupportedReason: reason,
    parametersTotal,
    parametersActive: description ? countParameters(description).active : dense ? parametersTotal : null,
    bytes: Object.values(dtypes).reduce((sum, { bytes }) => sum + bytes, 0),
    shards: checkpoint.shards.length,
    tensors: checkpoint.tensors.size,
    dtypes,
    vocabSize: description?.vocabSize ?? sizeOf(checkpoint, "vocab_size"),
    hiddenSize: description?.hiddenSize ?? sizeOf(checkpoint, "hidden_size"),
    numLayers: description?.layers.length ?? sizeOf(checkpoint, "num_hidden_layers") ?? countLayers(layers),
    numExpertsPerToken: moe?.numExpertsPerToken ?? sizeOf(checkpoint, "num_experts_per_tok"),
    layers,
    provenance: await readProvenance(checkpoint),
  };
}

function tryDescribe(checkpoint: Checkpoint): { description: ModelDescription | null; reason: string | null } {
  try {
    return { description: describeModel(checkpoint).description, reason: null };
  } catch (error) {
    if (error instanceof RerouteError) return { description: null, reason: error.message };
    throw error;
  }
}

function countDtypes(checkpoint: Checkpoint): CheckpointSummary["dtypes"] {
  const dtypes: CheckpointSummary["dtypes"] = {};
  for (const { dtype, byteLength } of checkpoint.tensors.values()) {
    const count = (dtypes[dtype] ??= { tensors: 0, bytes: 0 });
    count.tensors++;
    count.bytes += byteLength;
  }
  return dtypes;
}

function countLayers(layers: readonly LayerSummary[]): number | null {
  return layers.length > 0 ? layers.length : null;
}

function stringOf({ config }: Checkpoint, key: string): string | null {
  const value = Object.hasOwn(config, key) ? config[key] : undefined;
  return typeof value === "string" ? value : null;
}

function sizeOf({ config }: Checkpoint, key: string): number | null {
  const value = Object.hasOwn(config, key) ? config[key] : undefined;
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : null;
}

/** reroute.json beside config.json; one that is absent or cannot be read only leaves the origin unknown. */
async function readProvenance(checkpoint: Checkpoint): Promise<CheckpointSummary["provenance"]> {
  try {
    const found = provenanceSchema.safeParse(await readConfigFile(path.join(checkpoint.directory, "reroute.json")));
    if (!found.success) return null;
    const { kind, teacher, plan } = found.data;
    return { kind, teacherPath: teacher.path, method: plan?.method ?? null };
  } catch (error) {
    if (error instanceof RerouteError) return null;
    throw error;
  }
}
