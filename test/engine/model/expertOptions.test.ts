import type { ModelDescription } from "../../../src/engine/model/description";
import { addTensor, type EditableCheckpoint } from "./goldens";
import { testOptions } from "./optionRows";

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
/** A softmax over all experts, the selected probabilities as they are. */
const softmax = {
  kind: "softmax",
  softmax: "before",
  renormalise: false,
  epsilon: 0,
  epsilonMode: "add",
  scalingFactor: 1,
  groups: null,
  useCorrectionBias: false,
};

testOptions([
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
    expected: softmax,
  },
  {
    family: "mixtral",
    says: "always renormalised",
    read: (d) => moe(d).routing,
    expected: { ...softmax, renormalise: true },
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
    expected: { ...softmax, scalingFactor: 16, groups: { numGroups: 4, topGroups: 2, score: "max" } },
  },
  {
    family: "deepseek_v2",
    changes: { topk_method: "greedy", n_group: 4, topk_group: 2 },
    says: "greedy ignores groups",
    read: (d) => moe(d).routing,
    expected: softmax,
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
    expected: [{ ...softmax, renormalise: true, epsilon: 1e-12, epsilonMode: "clamp", useCorrectionBias: true }, [8]],
  },
  {
    family: "gpt_oss",
    says: "top-k, then softmax, of biased logits",
    read: (d) => [moe(d).routing, moe(d).router.bias!.shape],
    expected: [{ ...softmax, softmax: "after" }, [8]],
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
    family: "glm4_moe_lite",
    changes: { model_type: "glm_flash_of_tomorrow" },
    says: "a model_type without a row, by its architecture",
    read: (d) => d.family,
    expected: "glm4_moe_lite",
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
]);
