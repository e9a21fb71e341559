import type { CheckpointSummary, LayerSummary } from "../../protocol/checkpointSummary";
import type { GgufTensor } from "../gguf/header";
import type { GgufModel } from "../gguf/open";
import { elementCount } from "../tensor/dtype";

/** What a tensor of a GGUF model is for. */
export interface GgufRole {
  /** Block number; null outside blocks. */
  layer: number | null;
  kind: "router" | "expert" | "shared-expert" | "other";
  /** Number of the expert in old files that store experts one by one. */
  expert: number | null;
}

/**
 * Names as `TENSOR_NAMES` in gguf-py/gguf/constants.py of ggml-org/llama.cpp has them: `ffn_gate_inp` is the router,
 * `exp_probs_b` its correction bias, `ffn_{gate,up,down,gate_up}_exps` hold all experts with the expert as first axis,
 * `*_shexp` are shared experts (`ffn_gate_inp_shexp` their gate), and files from before April 2024 have
 * `ffn_gate.<expert>`.
 */
export function ggufRole(name: string): GgufRole {
  const found = /^blk\.(\d{1,6})\.(.+)$/.exec(name);
  if (!found) return { layer: null, kind: "other", expert: null };
  const layer = Number(found[1]);
  const part = found[2]!;
  if (/_shexp\./.test(part)) return { layer, kind: "shared-expert", expert: null };
  if (/^(?:ffn_gate_inp|exp_probs_b)(?:\.|$)/.test(part)) return { layer, kind: "router", expert: null };
  if (/^ffn_(?:gate|up|down|gate_up)_exps\./.test(part)) return { layer, kind: "expert", expert: null };
  const single = /^ffn_(?:gate|up|down)\.(\d{1,6})\./.exec(part);
  if (single) return { layer, kind: "expert", expert: Number(single[1]) };
  return { layer, kind: "other", expert: null };
}

/** Structure and sizes of a GGUF model, as `inspect` shows them. GGUF is for inspection only. */
export function summariseGguf(model: GgufModel, notes: readonly string[] = []): CheckpointSummary {
  const architecture = text(model, "general.architecture");
  const key = (name: string) => count(model, `${architecture ?? ""}.${name}`);
  const layers = summariseLayers(model);
  const numExpertsPerToken = key("expert_used_count");
  const parametersTotal = sumOf(model.tensors).parameters;
  return {
    path: model.path,
    modelType: architecture,
    supported: false,
    unsupportedReason: reason(model, layers),
    parametersTotal,
    parametersActive: activeParameters(layers, parametersTotal, numExpertsPerToken),
    bytes: sumOf(model.tensors).bytes,
    shards: model.shards.length,
    tensors: model.tensors.length,
    dtypes: countTypes(model),
    vocabSize: key("vocab_size") ?? listLength(model, "tokenizer.ggml.tokens"),
    hiddenSize: key("embedding_length"),
    numLayers: key("block_count") ?? (layers.length > 0 ? layers.length : null),
    numExpertsPerToken,
    layers,
    otherParts: [],
    unread: [],
    notes: [...notes],
    provenance: null,
  };
}

function reason(model: GgufModel, layers: readonly LayerSummary[]): string {
  if (text(model, "general.type") === "imatrix") {
    return "this is an importance matrix of llama.cpp, not a model; reroute import-trace shows the expert counts in it";
  }
  const missing = layers.some(({ moe }) => moe !== null) ? "" : "it has no Mixture-of-Experts layer, and ";
  return `${missing}GGUF files are for inspection only; compress and calibrate the safetensors checkpoint, then convert it`;
}

function summariseLayers(model: GgufModel): LayerSummary[] {
  const layers = new Map<number, { tensor: GgufTensor; role: GgufRole }[]>();
  for (const tensor of model.tensors) {
    const role = ggufRole(tensor.name);
    if (role.layer === null) continue;
    const found = layers.get(role.layer);
    if (found) found.push({ tensor, role });
    else layers.set(role.layer, [{ tensor, role }]);
  }
  return [...layers]
    .sort(([a], [b]) => a - b)
    .map(([index, entries]) => ({
      index,
      ...sumOf(entries.map(({ tensor }) => tensor)),
      moe: summariseMoe(entries),
    }));
}

function summariseMoe(entries: readonly { tensor: GgufTensor; role: GgufRole }[]): LayerSummary["moe"] {
  const ofKind = (kind: GgufRole["kind"]) =>
    entries.filter(({ role }) => role.kind === kind).map(({ tensor }) => tensor);
  const experts = ofKind("expert");
  if (experts.length === 0) return null;
  const routers = ofKind("router");
  const shared = ofKind("shared-expert");
  const router = routers.find(({ name, shape }) => name.includes("ffn_gate_inp") && shape.length > 1);
  const ids = new Set(entries.map(({ role }) => role.expert).filter((id) => id !== null));
  return {
    numExperts: ids.size > 0 ? ids.size : (experts.find(({ shape }) => shape.length > 2)?.shape[0] ?? 0),
    routerTensor: router?.name ?? "",
    router: sumOf(routers),
    experts: sumOf(experts),
    sharedExperts: shared.length > 0 ? sumOf(shared) : null,
  };
}

/** All but the experts that a token does not meet; null where the file does not say how many it meets. */
function activeParameters(layers: readonly LayerSummary[], total: number, perToken: number | null): number | null {
  const sparse = layers.flatMap(({ moe }) => (moe && moe.numExperts > 0 ? [moe] : []));
  if (sparse.length === 0) return layers.length > 0 ? total : null;
  if (perToken === null) return null;
  return sparse.reduce((sum, { experts, numExperts }) => {
    return sum - Math.max(0, numExperts - perToken) * (experts.parameters / numExperts);
  }, total);
}

function sumOf(tensors: readonly GgufTensor[]): { parameters: number; bytes: number } {
  return {
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

function countTypes({ tensors }: GgufModel): CheckpointSummary["dtypes"] {
  const types: CheckpointSummary["dtypes"] = {};
  for (const { type, byteLength } of tensors) {
    const found = (types[type] ??= { tensors: 0, bytes: 0 });
    found.tensors++;
    found.bytes += byteLength;
  }
  return types;
}

function text({ metadata }: GgufModel, key: string): string | null {
  const value = metadata.get(key);
  return typeof value === "string" ? value : null;
}

function count({ metadata }: GgufModel, key: string): number | null {
  const value = metadata.get(key);
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : null;
}

function listLength({ metadata }: GgufModel, key: string): number | null {
  const value = metadata.get(key);
  return typeof value === "object" ? value.length : null;
}
