import type {
  GroupedQueryAttention,
  LatentAttention,
  ModelDescription,
  SoftmaxAttention,
} from "../../../src/engine/model/description";
import { testOptions } from "./optionRows";

const grouped = (description: ModelDescription, layer = 0) =>
  description.layers[layer]!.attention as GroupedQueryAttention;
const rotary = (description: ModelDescription) => (description.layers[0]!.attention as SoftmaxAttention).rotary!;
const latent = (description: ModelDescription) => description.layers[0]!.attention as LatentAttention;
const windows = (description: ModelDescription) =>
  description.layers.map((layer) => (layer.attention as SoftmaxAttention).slidingWindow);
const yarn = { type: "yarn", factor: 40, original_max_position_embeddings: 4096, mscale: 0.707, mscale_all_dim: 0.707 };
const even = ["full_attention", "sliding_attention", "full_attention"];

testOptions([
  // Attention.
  {
    family: "qwen3_moe",
    says: "norms over heads, before rotation",
    read: (d) => [grouped(d).normScope, grouped(d).normAfterRotary, grouped(d).queryNorm!.weight!.shape],
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
    read: (d) => [grouped(d).normScope, grouped(d).queryNorm!.weight!.shape, grouped(d).keyNorm!.weight!.shape],
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
    read: (d) => [rotary(d).dims, rotary(d).pairing],
    expected: [4, "half"],
  },
  {
    family: "ernie4_5_moe",
    says: "interleaved pairs",
    read: (d) => rotary(d).pairing,
    expected: "interleaved",
  },
  {
    family: "minimax_m2",
    changes: { rotary_dim: 6 },
    says: "rotary_dim",
    read: (d) => rotary(d).dims,
    expected: 6,
  },
  // Latent attention.
  {
    family: "deepseek_v2",
    says: "interleaved pairs of the rotated part",
    read: (d) => [rotary(d).dims, rotary(d).pairing],
    expected: [8, "interleaved"],
  },
  {
    family: "deepseek_v3",
    changes: { rope_interleave: false },
    says: "halves",
    read: (d) => rotary(d).pairing,
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
    read: (d) => rotary(d).scaling,
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
]);
