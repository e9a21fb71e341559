/** config.json and tensor shapes of synthetic checkpoints, one function per family. */
import { hybridFamilies } from "./syntheticHybrids";
import {
  attention,
  decoder,
  deepseekExperts,
  experts,
  gatedMlp,
  latentAttention,
  latentSizes,
  llamaProjections,
  mixtralProjections,
  ones,
  weight,
  type SyntheticShape,
  type SyntheticTensor,
} from "./syntheticTensors";

export type SyntheticFamily = keyof typeof syntheticFamilies;

export interface SyntheticModel {
  config: { [key: string]: unknown };
  tensors: SyntheticTensor[];
}

export const syntheticFamilies = {
  ...hybridFamilies(commonConfig),
  qwen3_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "qwen3_moe", "Qwen3MoeForCausalLM"),
      head_dim: shape.headDim,
      attention_bias: false,
      intermediate_size: shape.moeIntermediateSize,
      moe_intermediate_size: shape.moeIntermediateSize,
      num_experts: shape.numExperts,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
      norm_topk_prob: true,
      rms_norm_eps: 1e-6,
      sliding_window: null,
      use_sliding_window: false,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { headNorms: true }),
      ...experts(`${layer}.mlp`, shape, llamaProjections),
    ]),
  }),

  mixtral: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "mixtral", "MixtralForCausalLM"),
      head_dim: shape.headDim,
      intermediate_size: shape.moeIntermediateSize,
      num_local_experts: shape.numExperts,
      rms_norm_eps: 1e-5,
      sliding_window: null,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, {}),
      ...experts(`${layer}.block_sparse_moe`, shape, mixtralProjections),
    ]),
  }),

  olmoe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "olmoe", "OlmoeForCausalLM"),
      attention_bias: false,
      clip_qkv: null,
      intermediate_size: shape.moeIntermediateSize,
      num_experts: shape.numExperts,
      norm_topk_prob: false,
      rms_norm_eps: 1e-5,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { projectionNorms: true }),
      ...experts(`${layer}.mlp`, shape, llamaProjections),
    ]),
  }),

  qwen2_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "qwen2_moe", "Qwen2MoeForCausalLM"),
      intermediate_size: shape.moeIntermediateSize,
      moe_intermediate_size: shape.moeIntermediateSize,
      shared_expert_intermediate_size: shape.sharedIntermediateSize,
      num_experts: shape.numExperts,
      decoder_sparse_step: 1,
      mlp_only_layers: [],
      norm_topk_prob: false,
      qkv_bias: true,
      rms_norm_eps: 1e-6,
      sliding_window: null,
      use_sliding_window: false,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { biases: true }),
      ...experts(`${layer}.mlp`, shape, llamaProjections),
      ...gatedMlp(`${layer}.mlp.shared_expert`, shape.hiddenSize, shape.sharedIntermediateSize, llamaProjections),
      weight(`${layer}.mlp.shared_expert_gate.weight`, 1, shape.hiddenSize),
    ]),
  }),

  deepseek_v2: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "deepseek_v2", "DeepseekV2ForCausalLM"),
      ...deepseekConfig(shape),
      scoring_func: "softmax",
      topk_method: "greedy",
      n_group: 1,
      topk_group: 1,
      routed_scaling_factor: 1,
    },
    tensors: decoder(shape, (layer) => [...latentAttention(layer, shape), ...deepseekExperts(layer, shape)]),
  }),

  deepseek_v3: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "deepseek_v3", "DeepseekV3ForCausalLM"),
      ...deepseekConfig(shape),
      norm_topk_prob: true,
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 2.5,
    },
    tensors: decoder(shape, (layer) => [
      ...latentAttention(layer, shape),
      ...deepseekExperts(layer, shape),
      weight(`${layer}.mlp.gate.e_score_correction_bias`, shape.numExperts),
    ]),
  }),

  glm4_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "glm4_moe", "Glm4MoeForCausalLM"),
      head_dim: shape.headDim,
      partial_rotary_factor: 0.5,
      first_k_dense_replace: 0,
      moe_intermediate_size: shape.moeIntermediateSize,
      n_routed_experts: shape.numExperts,
      n_shared_experts: 1,
      n_group: 1,
      topk_group: 1,
      norm_topk_prob: true,
      rms_norm_eps: 1e-5,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, {}),
      ...deepseekExperts(layer, shape),
      weight(`${layer}.mlp.gate.e_score_correction_bias`, shape.numExperts),
    ]),
  }),

  gpt_oss: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "gpt_oss", "GptOssForCausalLM"),
      head_dim: shape.headDim,
      attention_bias: true,
      intermediate_size: shape.moeIntermediateSize,
      num_local_experts: shape.numExperts,
      sliding_window: 128,
      rms_norm_eps: 1e-5,
      rope_scaling: { rope_type: "default" },
    },
    tensors: decoder(shape, (layer) => {
      const { numExperts, hiddenSize, moeIntermediateSize } = shape;
      const prefix = `${layer}.mlp.experts`;
      return [
        ...attention(layer, shape, { biases: true }),
        weight(`${layer}.self_attn.o_proj.bias`, hiddenSize),
        weight(`${layer}.self_attn.sinks`, shape.numHeads),
        weight(`${layer}.mlp.router.weight`, numExperts, hiddenSize),
        weight(`${layer}.mlp.router.bias`, numExperts),
        weight(`${prefix}.gate_up_proj`, numExperts, hiddenSize, 2 * moeIntermediateSize),
        weight(`${prefix}.gate_up_proj_bias`, numExperts, 2 * moeIntermediateSize),
        weight(`${prefix}.down_proj`, numExperts, moeIntermediateSize, hiddenSize),
        weight(`${prefix}.down_proj_bias`, numExperts, hiddenSize),
      ];
    }),
  }),

  granitemoe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "granitemoe", "GraniteMoeForCausalLM"),
      attention_multiplier: shape.headDim ** -0.5,
      embedding_multiplier: 12,
      logits_scaling: 6,
      residual_multiplier: 0.22,
      intermediate_size: shape.moeIntermediateSize,
      num_local_experts: shape.numExperts,
      rms_norm_eps: 1e-6,
    },
    tensors: decoder(shape, (layer) => {
      const { numExperts, hiddenSize, moeIntermediateSize } = shape;
      const prefix = `${layer}.block_sparse_moe`;
      return [
        ...attention(layer, shape, {}),
        weight(`${prefix}.router.layer.weight`, numExperts, hiddenSize),
        weight(`${prefix}.input_linear.weight`, numExperts, 2 * moeIntermediateSize, hiddenSize),
        weight(`${prefix}.output_linear.weight`, numExperts, hiddenSize, moeIntermediateSize),
      ];
    }),
  }),

  phimoe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "phimoe", "PhimoeForCausalLM"),
      // SparseMixer selects two experts whatever the other families do.
      num_experts_per_tok: 2,
      intermediate_size: shape.moeIntermediateSize,
      num_local_experts: shape.numExperts,
      router_jitter_noise: 0.01,
      sliding_window: null,
      rms_norm_eps: 1e-5,
    },
    tensors: [
      ...decoder(shape, (layer) => [
        ...attention(layer, shape, {}),
        ...experts(`${layer}.block_sparse_moe`, shape, mixtralProjections),
        weight(`${layer}.input_layernorm.bias`, shape.hiddenSize),
        weight(`${layer}.post_attention_layernorm.bias`, shape.hiddenSize),
      ]),
      weight("model.norm.bias", shape.hiddenSize),
    ],
  }),

  ernie4_5_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "ernie4_5_moe", "Ernie4_5_MoeForCausalLM"),
      head_dim: shape.headDim,
      use_bias: false,
      intermediate_size: shape.moeIntermediateSize,
      moe_intermediate_size: shape.moeIntermediateSize,
      moe_num_experts: shape.numExperts,
      moe_num_shared_experts: 1,
      moe_k: shape.numExpertsPerToken,
      moe_layer_start_index: 0,
      moe_layer_end_index: shape.numLayers - 1,
      moe_layer_interval: 1,
      rms_norm_eps: 1e-5,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, {}),
      ...deepseekExperts(layer, shape),
      weight(`${layer}.mlp.moe_statics.e_score_correction_bias`, 1, shape.numExperts),
    ]),
  }),

  hunyuan_v1_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "hunyuan_v1_moe", "HunYuanMoEV1ForCausalLM"),
      head_dim: shape.headDim,
      attention_bias: false,
      intermediate_size: shape.moeIntermediateSize,
      num_experts: shape.numExperts,
      moe_topk: shape.numExpertsPerToken,
      rms_norm_eps: 1e-5,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, {}),
      ones(`${layer}.self_attn.query_layernorm.weight`, shape.headDim),
      ones(`${layer}.self_attn.key_layernorm.weight`, shape.headDim),
      ...experts(`${layer}.mlp`, shape, llamaProjections, "gate.wg.weight"),
      ...gatedMlp(`${layer}.mlp.shared_mlp`, shape.hiddenSize, shape.moeIntermediateSize, llamaProjections),
    ]),
  }),

  minimax_m2: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "minimax_m2", "MiniMaxM2ForCausalLM"),
      head_dim: shape.headDim,
      intermediate_size: shape.moeIntermediateSize,
      num_local_experts: shape.numExperts,
      rms_norm_eps: 1e-6,
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { projectionNorms: true }),
      ...experts(`${layer}.block_sparse_moe`, shape, mixtralProjections),
      weight(`${layer}.block_sparse_moe.e_score_correction_bias`, shape.numExperts),
    ]),
  }),
};

function commonConfig(shape: SyntheticShape, modelType: string, architecture: string): { [key: string]: unknown } {
  return {
    architectures: [architecture],
    model_type: modelType,
    attention_dropout: 0,
    bos_token_id: null,
    eos_token_id: null,
    hidden_act: "silu",
    hidden_size: shape.hiddenSize,
    initializer_range: 0.02,
    max_position_embeddings: shape.maxPositionEmbeddings,
    num_attention_heads: shape.numHeads,
    num_experts_per_tok: shape.numExpertsPerToken,
    num_hidden_layers: shape.numLayers,
    num_key_value_heads: shape.numKeyValueHeads,
    output_router_logits: false,
    rope_theta: 10000,
    rope_scaling: null,
    router_aux_loss_coef: 0.001,
    tie_word_embeddings: shape.tieWordEmbeddings,
    torch_dtype: "bfloat16",
    use_cache: true,
    vocab_size: shape.vocabSize,
  };
}

function deepseekConfig(shape: SyntheticShape): { [key: string]: unknown } {
  return {
    ...latentSizes(shape),
    num_key_value_heads: shape.numHeads,
    attention_bias: false,
    first_k_dense_replace: 0,
    moe_layer_freq: 1,
    intermediate_size: shape.moeIntermediateSize,
    moe_intermediate_size: shape.moeIntermediateSize,
    n_routed_experts: shape.numExperts,
    n_shared_experts: 1,
    rms_norm_eps: 1e-6,
  };
}
