import { describe, expect, it } from "vitest";
import type { GroupedQueryAttention, LatentAttention, ModelDescription } from "../../../src/engine/model/description";
import { describeModel } from "../../../src/engine/model/families/index";
import { addTensor, openGolden, type EditableCheckpoint } from "./goldens";

/** What a config option must turn into; `expected` was read from transformers 5.18's modeling files. */
interface Row {
  family: string;
  changes?: Record<string, unknown>;
  edit?: (checkpoint: EditableCheckpoint) => void;
  says: string;
  read: (description: ModelDescription) => unknown;
  expected: unknown;
}

const grouped = (description: ModelDescription, layer = 0) =>
  description.layers[layer]!.attention as GroupedQueryAttention;
const latent = (description: ModelDescription) => description.layers[0]!.attention as LatentAttention;
const windows = (description: ModelDescription) => description.layers.map((layer) => layer.attention.slidingWindow);
const kinds = (description: ModelDescription) => description.layers.map((layer) => layer.feedForward.kind);
const moe = (description: ModelDescription, layer = 1) => {
  const part = description.layers[layer]!.feedForward;
  if (part.kind !== "moe") throw new Error("not MoE");
  return part;
};
const addMlp = (layer: number, size: number) => (checkpoint: EditableCheckpoint) => {
  for (const name of ["gate_proj", "up_proj", "down_proj"]) {
    addTensor(checkpoint, `model.layers.${layer}.mlp.${name}.weight`, name === "down_proj" ? [32, size] : [size, 32]);
  }
};
const yarn = { type: "yarn", factor: 40, original_max_position_embeddings: 4096, mscale: 0.707, mscale_all_dim: 0.707 };
const even = ["full_attention", "sliding_attention", "full_attention"];

const rows: Row[] = [
  // Attention.
  {
    family: "qwen3_moe",
    says: "norms over heads, before rotation",
    read: (d) => [grouped(d).normScope, grouped(d).normAfterRotary, grouped(d).queryNorm!.weight.shape],
    expected: ["head", false, [16]],
  },
  { family: "qwen3_moe", says: "scale of a head", read: (d) => grouped(d).scale, expected: 0.25 },
  {
    family: "qwen3_moe",
    changes: { use_sliding_window: true, sliding_window: 7 },
    says: "window everywhere",
    read: windows,
    expected: [7, 7, 7],
  },
  {
    family: "qwen3_moe",
    changes: { use_sliding_window: false, sliding_window: 7 },
    says: "window off",
    read: windows,
    expected: [null, null, null],
  },
  {
    family: "qwen2_moe",
    changes: { use_sliding_window: true, sliding_window: 7, layer_types: null },
    says: "window in even layers",
    read: windows,
    expected: [7, null, 7],
  },
  {
    family: "qwen2_moe",
    changes: { use_sliding_window: true, sliding_window: 7, layer_types: null, max_window_layers: 2 },
    says: "window in the first layers only",
    read: windows,
    expected: [7, null, null],
  },
  {
    family: "qwen2_moe",
    changes: { use_sliding_window: true, sliding_window: 7, layer_types: even },
    says: "window by layer_types",
    read: windows,
    expected: [null, 7, null],
  },
  {
    family: "qwen2_moe",
    says: "bias of inputs only",
    read: (d) => [grouped(d).query.bias?.shape, grouped(d).output.bias],
    expected: [[32], null],
  },
  {
    family: "mixtral",
    changes: { sliding_window: 9, layer_types: Array(3).fill("sliding_attention") },
    says: "window everywhere",
    read: windows,
    expected: [9, 9, 9],
  },
  {
    family: "mixtral",
    says: "no norms of queries",
    read: (d) => [grouped(d).queryNorm, grouped(d).keyNorm],
    expected: [null, null],
  },
  { family: "olmoe", changes: { clip_qkv: 0.5 }, says: "clip", read: (d) => grouped(d).clip, expected: 0.5 },
  {
    family: "olmoe",
    says: "norms over projections",
    read: (d) => [grouped(d).normScope, grouped(d).queryNorm!.weight.shape, grouped(d).keyNorm!.weight.shape],
    expected: ["projection", [32], [16]],
  },
  {
    family: "hunyuan_v1_moe",
    says: "norms after rotation",
    read: (d) => [grouped(d).normScope, grouped(d).normAfterRotary],
    expected: ["head", true],
  },
  {
    family: "minimax_m2",
    says: "norms over projections, before rotation",
    read: (d) => [grouped(d).normScope, grouped(d).normAfterRotary],
    expected: ["projection", false],
  },
  {
    family: "gpt_oss",
    says: "sinks, and windows in even layers",
    read: (d) => [grouped(d).sinks!.shape, windows(d)],
    expected: [[4], [8, null, 8]],
  },
  {
    family: "gpt_oss",
    changes: { layer_types: null },
    says: "windows in even layers by default",
    read: windows,
    expected: [8, null, 8],
  },
  {
    family: "granitemoe",
    says: "multipliers",
    read: (d) => [d.embedding.multiplier, grouped(d).scale, d.layers[0]!.residualMultiplier, d.head.scale],
    expected: [6, 0.2, 0.5, 0.25],
  },
  {
    family: "phimoe",
    says: "layer norms with biases",
    read: (d) => [d.finalNorm.kind, d.finalNorm.bias?.tensor],
    expected: ["layer", "model.norm.bias"],
  },
  {
    family: "glm4_moe",
    says: "half of each head rotates",
    read: (d) => [d.rotary!.dims, d.rotary!.pairing],
    expected: [4, "half"],
  },
  { family: "ernie4_5_moe", says: "interleaved pairs", read: (d) => d.rotary!.pairing, expected: "interleaved" },
  { family: "minimax_m2", changes: { rotary_dim: 6 }, says: "rotary_dim", read: (d) => d.rotary!.dims, expected: 6 },
  // Latent attention.
  {
    family: "deepseek_v2",
    says: "interleaved pairs of the rotated part",
    read: (d) => [d.rotary!.dims, d.rotary!.pairing],
    expected: [8, "interleaved"],
  },
  {
    family: "deepseek_v3",
    changes: { rope_interleave: false },
    says: "halves",
    read: (d) => d.rotary!.pairing,
    expected: "half",
  },
  {
    family: "deepseek_v3",
    says: "scale of nope and rope parts together",
    read: (d) => latent(d).scale,
    expected: 0.25,
  },
  {
    family: "deepseek_v3",
    changes: { rope_scaling: yarn },
    says: "scale corrected by mscale_all_dim",
    read: (d) => latent(d).scale,
    expected: 0.25 * (0.0707 * Math.log(40) + 1) ** 2,
  },
  {
    family: "deepseek_v3",
    changes: { rope_scaling: yarn },
    says: "no magnitude left for cos and sin",
    read: (d) => d.rotary!.scaling,
    expected: {
      type: "yarn",
      factor: 40,
      originalMaxPositionEmbeddings: 4096,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      attentionFactor: 1,
    },
  },
  {
    family: "deepseek_v2",
    changes: { rms_norm_eps: 1e-3 },
    says: "inner norms keep their epsilon",
    read: (d) => [d.finalNorm.epsilon, latent(d).keyValueNorm.epsilon],
    expected: [1e-3, 1e-6],
  },
  // Which layers have experts.
  {
    family: "qwen3_moe",
    changes: { mlp_only_layers: [1] },
    edit: addMlp(1, 40),
    says: "a dense layer by number",
    read: kinds,
    expected: ["moe", "mlp", "moe"],
  },
  {
    family: "qwen2_moe",
    changes: { decoder_sparse_step: 2 },
    edit: (c) => [0, 2].forEach((l) => addMlp(l, 40)(c)),
    says: "experts in every second layer",
    read: kinds,
    expected: ["mlp", "moe", "mlp"],
  },
  { family: "deepseek_v3", says: "dense first layers", read: kinds, expected: ["mlp", "moe", "moe"] },
  {
    family: "ernie4_5_moe",
    changes: { moe_layer_end_index: 1 },
    edit: addMlp(2, 40),
    says: "a last MoE layer",
    read: kinds,
    expected: ["mlp", "moe", "mlp"],
  },
  {
    family: "ernie4_5_moe",
    changes: { moe_layer_end_index: -1 },
    says: "no last MoE layer",
    read: kinds,
    expected: ["mlp", "moe", "moe"],
  },
  // Routing.
  {
    family: "qwen3_moe",
    changes: { norm_topk_prob: undefined },
    says: "not renormalised by default",
    read: (d) => moe(d).routing,
    expected: {
      kind: "softmax",
      softmax: "before",
      renormalise: false,
      epsilon: 0,
      epsilonMode: "add",
      scalingFactor: 1,
      groups: null,
      useCorrectionBias: false,
    },
  },
  {
    family: "mixtral",
    says: "always renormalised",
    read: (d) => moe(d).routing,
    expected: {
      kind: "softmax",
      softmax: "before",
      renormalise: true,
      epsilon: 0,
      epsilonMode: "add",
      scalingFactor: 1,
      groups: null,
      useCorrectionBias: false,
    },
  },
  {
    family: "deepseek_v2",
    changes: {
      topk_method: "group_limited_greedy",
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 16,
      norm_topk_prob: true,
    },
    says: "groups by their best",
    read: (d) => moe(d).routing,
    expected: {
      kind: "softmax",
      softmax: "before",
      renormalise: false,
      epsilon: 0,
      epsilonMode: "add",
      scalingFactor: 16,
      groups: { numGroups: 4, topGroups: 2, score: "max" },
      useCorrectionBias: false,
    },
  },
  {
    family: "deepseek_v2",
    changes: { topk_method: "greedy", n_group: 4, topk_group: 2 },
    says: "greedy ignores groups",
    read: (d) => moe(d).routing,
    expected: {
      kind: "softmax",
      softmax: "before",
      renormalise: false,
      epsilon: 0,
      epsilonMode: "add",
      scalingFactor: 1,
      groups: null,
      useCorrectionBias: false,
    },
  },
  {
    family: "deepseek_v3",
    says: "groups by their two best",
    read: (d) => moe(d).routing,
    expected: {
      kind: "sigmoid",
      renormalise: true,
      epsilon: 1e-20,
      scalingFactor: 2.5,
      groups: { numGroups: 4, topGroups: 2, score: "sum-of-two" },
      useCorrectionBias: true,
    },
  },
  {
    family: "minimax_m2",
    says: "sigmoid with bias",
    read: (d) => moe(d).routing,
    expected: {
      kind: "sigmoid",
      renormalise: true,
      epsilon: 0,
      scalingFactor: 1,
      groups: null,
      useCorrectionBias: true,
    },
  },
  {
    family: "ernie4_5_moe",
    says: "softmax with bias, clamped divisor",
    read: (d) => [moe(d).routing, moe(d).router.correctionBias!.shape],
    expected: [
      {
        kind: "softmax",
        softmax: "before",
        renormalise: true,
        epsilon: 1e-12,
        epsilonMode: "clamp",
        scalingFactor: 1,
        groups: null,
        useCorrectionBias: true,
      },
      [8],
    ],
  },
  {
    family: "gpt_oss",
    says: "top-k, then softmax, of biased logits",
    read: (d) => [moe(d).routing, moe(d).router.bias!.shape],
    expected: [
      {
        kind: "softmax",
        softmax: "after",
        renormalise: false,
        epsilon: 0,
        epsilonMode: "add",
        scalingFactor: 1,
        groups: null,
        useCorrectionBias: false,
      },
      [8],
    ],
  },
  {
    family: "phimoe",
    changes: { router_jitter_noise: 0.02 },
    says: "sparse mixer",
    read: (d) => moe(d).routing,
    expected: { kind: "sparse-mixer", jitter: 0.02 },
  },
  {
    family: "hunyuan_v1_moe",
    changes: { num_experts: [8, 8, 8], moe_topk: [1, 3, 2] },
    says: "k by layer",
    read: (d) => [0, 1, 2].map((l) => moe(d, l).numExpertsPerToken),
    expected: [1, 3, 2],
  },
  // Shared experts and activations.
  {
    family: "qwen2_moe",
    says: "a gated shared expert",
    read: (d) => [moe(d).shared!.mlp.intermediateSize, moe(d).shared!.gate!.weight.shape],
    expected: [28, [1, 32]],
  },
  {
    family: "deepseek_v3",
    says: "an ungated shared expert",
    read: (d) => [moe(d).shared!.mlp.intermediateSize, moe(d).shared!.gate],
    expected: [24, null],
  },
  {
    family: "deepseek_v3",
    changes: { n_shared_experts: 0 },
    says: "no shared expert",
    read: (d) => moe(d).shared,
    expected: null,
  },
  {
    family: "gpt_oss",
    says: "its own activation",
    read: (d) => moe(d).activation,
    expected: { kind: "clamped-swiglu", limit: 7, alpha: 1.702 },
  },
  {
    family: "mixtral",
    changes: { hidden_act: "gelu_pytorch_tanh" },
    says: "tanh GELU",
    read: (d) => moe(d).activation,
    expected: { kind: "gated", activation: "gelu-tanh" },
  },
  {
    family: "mixtral",
    changes: { hidden_act: "gelu" },
    says: "exact GELU",
    read: (d) => moe(d).activation,
    expected: { kind: "gated", activation: "gelu" },
  },
  {
    family: "mixtral",
    changes: { hidden_act: null },
    says: "SiLU by default",
    read: (d) => moe(d).activation,
    expected: { kind: "gated", activation: "silu" },
  },
  // Other spellings.
  {
    family: "deepseek_v3",
    changes: { model_type: "kimi_k2" },
    says: "Kimi-K2 by its own name",
    read: (d) => d.family,
    expected: "deepseek_v3",
  },
  {
    family: "mixtral",
    changes: { num_local_experts: undefined, num_experts: 8 },
    says: "the other spelling",
    read: (d) => moe(d).numExperts,
    expected: 8,
  },
  {
    family: "ernie4_5_moe",
    changes: { moe_k: undefined, num_experts_per_tok: 3 },
    says: "the other spelling of k",
    read: (d) => moe(d).numExpertsPerToken,
    expected: 3,
  },
];

describe("an option becomes what transformers does with it", () => {
  it.each(rows)("$family: $says", async ({ family, changes, edit, read, expected }) => {
    const checkpoint = await openGolden(family);
    for (const [key, value] of Object.entries(changes ?? {})) {
      if (value === undefined) Reflect.deleteProperty(checkpoint.config, key);
      else checkpoint.config[key] = value;
    }
    edit?.(checkpoint);
    expect(read(describeModel(checkpoint).description)).toEqual(expected);
  });
});
