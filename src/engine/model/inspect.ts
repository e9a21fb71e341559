import path from "node:path";
import type { CheckpointSummary, LayerSummary } from "../../protocol/checkpointSummary";
import { RerouteError, type ErrorCode } from "../../protocol/errors";
import { provenanceSchema } from "../../protocol/provenance";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { readConfigFile } from "../checkpoint/configFile";
import { resolveHubPath } from "../checkpoint/hubCache";
import { openCheckpoint } from "../checkpoint/open";
import { findGguf, openGgufModel } from "../gguf/open";
import { configSize, layerCountSpellings } from "./configSize";
import type { ModelDescription } from "./description";
import { expertCountSpellings } from "./expertCount";
import { denseFamilies, describeModel } from "./families/index";
import { summariseGguf } from "./ggufSummary";
import { summariseLayers } from "./layerSummaries";
import { countParameters } from "./parameters";
import { unreadTensors } from "./unread";

/**
 * What a checkpoint holds, from its headers and config.json alone. Works for any checkpoint: a family, option or layout
 * that Reroute does not support is explained in `unsupportedReason` and counted by tensor names; how many parameters a
 * token meets is then known only for dense models.
 */
export async function summariseCheckpoint(checkpoint: Checkpoint): Promise<CheckpointSummary> {
  const { description, failure } = tryDescribe(checkpoint);
  const moe = description?.layers.map((layer) => layer.feedForward).find((part) => part.kind === "moe");
  const { layers, otherParts, parametersTotal } = summariseLayers(checkpoint, description);
  const dtypes = countDtypes(checkpoint);
  const size = (spellings: readonly string[]) => configSize(checkpoint.config, spellings);
  const dense = layers.length > 0 && layers.every((layer) => layer.moe === null);
  const runs = description !== null;
  const groups = moe === undefined || moe.routing.kind === "sparse-mixer" ? 1 : (moe.routing.groups?.numGroups ?? 1);
  return {
    path: checkpoint.directory,
    modelType: stringOf(checkpoint, "model_type"),
    supported: runs && moe !== undefined,
    ...(runs && moe === undefined ? { isDense: true as const } : {}),
    unsupportedReason: runs
      ? moe === undefined
        ? `${denseReason(checkpoint, layers)}; forward and evaluate run it`
        : null
      : failure && (plainerReason(checkpoint, layers, failure.code) ?? failure.message),
    parametersTotal,
    parametersActive: description ? countParameters(description).active : dense ? parametersTotal : null,
    bytes: Object.values(dtypes).reduce((sum, { bytes }) => sum + bytes, 0),
    shards: checkpoint.shards.length,
    tensors: checkpoint.tensors.size,
    dtypes,
    vocabSize: description?.vocabSize ?? size(["vocab_size"]),
    hiddenSize: description?.hiddenSize ?? size(["hidden_size", "d_model", "n_embd"]),
    numLayers: description?.layers.length ?? size(layerCountSpellings) ?? (layers.length || null),
    numExpertsPerToken: moe?.numExpertsPerToken ?? size(expertsPerTokenSpellings),
    ...(groups > 1 ? { routingGroups: groups } : {}),
    layers,
    otherParts,
    unread: description === null ? [] : unreadTensors(checkpoint, description),
    notes: [...(checkpoint.notes ?? [])],
    provenance: await readProvenance(checkpoint),
  };
}

function tryDescribe(checkpoint: Checkpoint): { description: ModelDescription | null; failure: RerouteError | null } {
  try {
    return { description: describeModel(checkpoint).description, failure: null };
  } catch (error) {
    if (error instanceof RerouteError) return { description: null, failure: error };
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

const expertsPerTokenSpellings = [
  "num_experts_per_tok",
  "moe_top_k",
  "top_k_experts",
  "moe_topk",
  "num_experts_per_token",
];

/**
 * Of a checkpoint that cannot be described, the cause that a user can see at once, where there is one: what its family
 * lacks, or which tensor was looked for first, tells less.
 */
function plainerReason(
  { tensors, config }: Checkpoint,
  layers: readonly LayerSummary[],
  code: ErrorCode,
): string | null {
  const isUnknown = code === "model/unsupported-family" || denseFamilies.has(stringOf({ config }, "model_type") ?? "");
  const isDense = layers.length > 0 && layers.every(({ moe }) => moe === null);
  if (isUnknown && isDense && configSize(config, expertCountSpellings) === null) {
    return denseReason({ config }, layers);
  }
  for (const name of tensors.keys()) {
    if (/(?:^|\.)switch_(?:mlp|glu)\./.test(name)) {
      return "this is a checkpoint of MLX, which stacks experts under other names; use the checkpoint in safetensors that it was converted from";
    }
  }
  return null;
}

function denseReason({ config }: Pick<Checkpoint, "config">, layers: readonly LayerSummary[]): string {
  const type = typeof config["model_type"] === "string" ? ` (${config["model_type"]})` : "";
  return `this is a dense model${type}: none of its ${layers.length} layers has experts, so there is no router to calibrate and nothing to compress`;
}

function stringOf({ config }: Pick<Checkpoint, "config">, key: string): string | null {
  const value = Object.hasOwn(config, key) ? config[key] : undefined;
  return typeof value === "string" ? value : null;
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

/**
 * What a path holds: a safetensors checkpoint (folder, config.json, .safetensors file, index) or a GGUF model (.gguf
 * file, any part of a split one, or a folder with one such model); of a model's folder in a Hugging Face cache, its newest
 * snapshot. Headers only.
 * @throws RerouteError codes of openCheckpoint and openGgufModel
 */
export async function inspectPath(anyPath: string): Promise<CheckpointSummary> {
  const found = await resolveHubPath(anyPath);
  const gguf = await findGguf(found);
  return gguf === null
    ? summariseCheckpoint(await openCheckpoint(found))
    : summariseGguf(await openGgufModel(gguf.path), gguf.notes);
}
