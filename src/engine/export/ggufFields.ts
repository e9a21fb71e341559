import type { GgufFileType } from "../../protocol/gguf";
import type { GgufField } from "../gguf/write";
import type { RotaryDescription, SoftmaxAttention } from "../model/description";
import { magnitudeShare } from "./attentionProblems";
import type { ExportableModel } from "./refuseOthers";

/** Numbers of `general.file_type` (`llama_ftype`). */
const fileTypes: Record<GgufFileType, number> = { f16: 1, q4_0: 2, q8_0: 7, mxfp4: 38 };

/** How the experts' scores become weights (`expert_gating_func`). */
const gatingFunctions = { softmax: 1, sigmoid: 2 } as const;

/** Sizes and constants of a model under the names that llama.cpp asks for (gguf-py/gguf/constants.py). */
export function modelFields(model: ExportableModel, name: string, fileType: GgufFileType): Map<string, GgufField> {
  const { architecture, description, moe, attention, layers } = model;
  const { name: arch, routing: allowed, multipliers } = architecture;
  const fields = new Map<string, GgufField>([
    ["general.architecture", text(arch)],
    ["general.type", text("model")],
    ["general.name", text(name)],
    ["general.file_type", count(fileTypes[fileType])],
    ["general.quantization_version", count(2)],
  ]);
  const put = (key: string, field: GgufField) => fields.set(`${arch}.${key}`, field);
  const dense = layers.flatMap(({ feedForward }) => (feedForward.kind === "mlp" ? [feedForward.intermediateSize] : []));
  put("vocab_size", count(description.vocabSize));
  put("context_length", count(description.maxPositionEmbeddings));
  put("embedding_length", count(description.hiddenSize));
  put("block_count", count(layers.length));
  put("feed_forward_length", count(dense[0] ?? moe.intermediateSize));
  for (const [key, field] of attentionFields(attention)) put(`attention.${key}`, field);
  put("attention.layer_norm_rms_epsilon", number(description.finalNorm.epsilon));
  for (const [key, field] of rotaryFields(attention.rotary!)) put(key, field);
  if (attention.kind === "latent") {
    const share = magnitudeShare(attention)!;
    // The loader of this architecture takes a tenth for the whole.
    if (share > 0) put("rope.scaling.yarn_log_multiplier", number(0.1 * share));
  }
  put("expert_count", count(moe.numExperts));
  put("expert_used_count", count(moe.numExpertsPerToken));
  put(architecture.expertWidth, count(moe.intermediateSize));
  if (architecture.leadingDense) put("leading_dense_block_count", count(dense.length));
  const shared = moe.shared?.mlp.intermediateSize ?? 0;
  if (architecture.shared === "counted") put("expert_shared_count", count(shared / moe.intermediateSize));
  else if (shared > 0) put("expert_shared_feed_forward_length", count(shared));
  if (allowed.scales && moe.routing.kind !== "sparse-mixer") {
    put("expert_gating_func", count(gatingFunctions[moe.routing.kind]));
    put("expert_weights_scale", number(moe.routing.scalingFactor));
    put("expert_weights_norm", { type: "bool", value: moe.routing.renormalise });
    const { groups } = moe.routing;
    if (groups !== null && groups.topGroups < groups.numGroups) {
      put("expert_group_count", count(groups.numGroups));
      put("expert_group_used_count", count(groups.topGroups));
    }
  }
  if (multipliers) {
    put("attention.scale", number(attention.scale));
    put("embedding_scale", number(description.embedding.multiplier));
    put("residual_scale", number(layers[0]!.residualMultiplier));
    put("logit_scale", number(1 / description.head.scale));
  }
  return fields;
}

/**
 * Latent attention is written as llama.cpp runs it: every head's keys are the compressed ones and the rotated part, which all heads share,
 * and its values the compressed ones.
 */
function attentionFields(attention: SoftmaxAttention): [string, GgufField][] {
  const { numHeads } = attention;
  if (attention.kind === "grouped-query") {
    const { numKeyValueHeads, headDim, valueHeadDim, slidingWindow } = attention;
    return [
      ["head_count", count(numHeads)],
      ["head_count_kv", count(numKeyValueHeads)],
      ["key_length", count(headDim)],
      ["value_length", count(valueHeadDim)],
      ...(slidingWindow === null ? [] : [["sliding_window", count(slidingWindow)] as [string, GgufField]]),
    ];
  }
  const { query, kvLoraRank, qkRopeHeadDim, qkNopeHeadDim, vHeadDim } = attention;
  return [
    ["head_count", count(numHeads)],
    ["head_count_kv", count(1)],
    ["key_length", count(kvLoraRank + qkRopeHeadDim)],
    ["value_length", count(kvLoraRank)],
    ["key_length_mla", count(qkNopeHeadDim + qkRopeHeadDim)],
    ["value_length_mla", count(vHeadDim)],
    ["kv_lora_rank", count(kvLoraRank)],
    ...("down" in query ? [["q_lora_rank", count(query.down.weight.shape[0]!)] as [string, GgufField]] : []),
  ];
}

function rotaryFields({ dims, theta, scaling }: RotaryDescription): [string, GgufField][] {
  const fields: [string, GgufField][] = [
    ["rope.dimension_count", count(dims)],
    ["rope.freq_base", number(theta)],
  ];
  if (scaling.type !== "linear" && scaling.type !== "yarn") return fields;
  fields.push(["rope.scaling.type", text(scaling.type)], ["rope.scaling.factor", number(scaling.factor)]);
  if (scaling.type === "yarn") {
    fields.push(["rope.scaling.original_context_length", count(scaling.originalMaxPositionEmbeddings)]);
    fields.push(["rope.scaling.yarn_beta_fast", number(scaling.betaFast)]);
    fields.push(["rope.scaling.yarn_beta_slow", number(scaling.betaSlow)]);
  }
  return fields;
}

function count(value: number): GgufField {
  return { type: "uint32", value };
}

function number(value: number): GgufField {
  return { type: "float32", value };
}

function text(value: string): GgufField {
  return { type: "string", value };
}
