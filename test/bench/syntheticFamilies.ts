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

  dots1: (shape: SyntheticShape): SyntheticModel => ({
    config: { ...commonConfig(shape, "dots1", "Dots1ForCausalLM"), ...groupedExpertsConfig(shape) },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { headNorms: true }),
      ...deepseekExperts(layer, shape),
      correctionBias(layer, shape),
    ]),
  }),

  solar_open: (shape: SyntheticShape): SyntheticModel => ({
    config: { ...commonConfig(shape, "solar_open", "SolarOpenForCausalLM"), ...groupedExpertsConfig(shape) },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, {}),
      ...deepseekExperts(layer, shape),
      correctionBias(layer, shape),
    ]),
  }),

  exaone_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "exaone_moe", "ExaoneMoeForCausalLM"),
      ...sharedExpertsConfig(shape),
      ...{ sliding_window: 128, sliding_window_pattern: 4, norm_topk_prob: true, n_group: 1, topk_group: 1 },
    },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { headNorms: true }),
      ...deepseekExperts(layer, shape),
      correctionBias(layer, shape, "e_score_correction_bias"),
    ]),
  }),

  flex_olmo: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "flex_olmo", "FlexOlmoForCausalLM"),
      ...{ head_dim: shape.headDim, intermediate_size: shape.moeIntermediateSize, num_experts: shape.numExperts },
      ...{ norm_topk_prob: false, rms_norm_eps: 1e-6 },
    },
    tensors: decoder(
      shape,
      (layer) => [
        ...attention(layer, shape, { projectionNorms: true }),
        ...experts(`${layer}.mlp`, shape, llamaProjections),
      ],
      ["post_attention_layernorm", "post_feedforward_layernorm"],
    ),
  }),

  hy_v3: (shape: SyntheticShape): SyntheticModel => ({
    config: { ...commonConfig(shape, "hy_v3", "HYV3ForCausalLM"), ...sharedExpertsConfig(shape) },
    tensors: decoder(shape, (layer) => [
      ...attention(layer, shape, { headNorms: true }),
      ...experts(`${layer}.mlp`, shape, llamaProjections, "router.gate.weight"),
      ...shared(layer, shape, "mlp.shared_mlp"),
      correctionBias(layer, shape, "expert_bias"),
    ]),
  }),

  granitemoeshared: (shape: SyntheticShape): SyntheticModel => {
    const granite = syntheticFamilies.granitemoe(shape);
    const { hiddenSize, sharedIntermediateSize: width, numLayers } = shape;
    return {
      config: {
        ...granite.config,
        ...{ model_type: "granitemoeshared", architectures: ["GraniteMoeSharedForCausalLM"] },
        shared_intermediate_size: width,
      },
      tensors: [
        ...granite.tensors,
        ...Array.from({ length: numLayers }, (_, i) => [
          weight(`model.layers.${i}.shared_mlp.input_linear.weight`, 2 * width, hiddenSize),
          weight(`model.layers.${i}.shared_mlp.output_linear.weight`, hiddenSize, width),
        ]).flat(),
      ],
    };
  },

  afmoe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "afmoe", "AfmoeForCausalLM"),
      ...sharedExpertsConfig(shape),
      ...{ num_dense_layers: 0, global_attn_every_n_layers: 4, sliding_window: 128 },
    },
    tensors: decoder(
      shape,
      (layer) => [
        ...attention(layer, shape, { headNorms: true }),
        weight(`${layer}.self_attn.gate_proj.weight`, shape.numHeads * shape.headDim, shape.hiddenSize),
        ...experts(`${layer}.mlp`, shape, llamaProjections, "router.gate.weight"),
        ...shared(layer, shape),
        correctionBias(layer, shape, "expert_bias"),
      ],
      ["input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"],
    ),
  }),

  glm4_moe_lite: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "glm4_moe_lite", "Glm4MoeLiteForCausalLM"),
      ...deepseekConfig(shape),
      ...{ norm_topk_prob: true, n_group: 1, topk_group: 1, routed_scaling_factor: 1.8 },
    },
    tensors: decoder(shape, (layer) => [
      ...latentAttention(layer, shape),
      ...deepseekExperts(layer, shape),
      correctionBias(layer, shape),
    ]),
  }),

  mimo_v2_flash: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "mimo_v2_flash", "MiMoV2FlashForCausalLM"),
      ...groupedExpertsConfig(shape),
      ...{ v_head_dim: shape.headDim, n_shared_experts: null, sliding_window: 128, partial_rotary_factor: 0.5 },
    },
    tensors: decoder(shape, (layer, index) => {
      const slides = index > 0 && (index + 1) % 6 !== 0;
      return [
        ...attention(layer, { ...shape, numKeyValueHeads: (slides ? 2 : 1) * shape.numKeyValueHeads }, {}),
        ...(slides ? [weight(`${layer}.self_attn.attention_sink_bias`, shape.numHeads)] : []),
        ...experts(`${layer}.mlp`, shape, llamaProjections),
        correctionBias(layer, shape),
      ];
    }),
  }),

  cohere2_moe: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "cohere2_moe", "Cohere2MoeForCausalLM"),
      ...{ head_dim: shape.headDim, intermediate_size: shape.moeIntermediateSize, num_experts: shape.numExperts },
      ...{ num_shared_experts: 1, expert_selection_fn: "softmax", sliding_window: 128, sliding_window_pattern: 4 },
      ...{ layer_norm_eps: 1e-5, logit_scale: 0.0625 },
    },
    tensors: decoder(shape, (layer) => [...attention(layer, shape, {}), ...deepseekExperts(layer, shape)], [
      "input_layernorm",
    ]),
  }),

  mistral4: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "mistral4", "Mistral4ForCausalLM"),
      ...deepseekConfig(shape),
      ...{ norm_topk_prob: true, n_group: 1, topk_group: 1, routed_scaling_factor: 1 },
      rope_parameters: {
        ...{ rope_type: "yarn", factor: 128, original_max_position_embeddings: 8192, beta_fast: 32, beta_slow: 1 },
        ...{ mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1, rope_theta: 10000 },
      },
    },
    tensors: decoder(shape, (layer) => [
      ...latentAttention(layer, shape),
      ...fusedExperts(layer, shape),
      ...shared(layer, shape),
    ]),
  }),

  minimax_m3_vl_text: (shape: SyntheticShape): SyntheticModel => ({
    config: {
      ...commonConfig(shape, "minimax_m3_vl_text", "MiniMaxM3VLForCausalLM"),
      ...{ head_dim: shape.headDim, intermediate_size: shape.moeIntermediateSize, num_local_experts: shape.numExperts },
      ...{ shared_intermediate_size: shape.sharedIntermediateSize, rms_norm_eps: 1e-6 },
    },
    tensors: decoder(shape, (layer) => {
      const { hiddenSize, sharedIntermediateSize: width } = shape;
      return [
        ...attention(layer, shape, { headNorms: true }),
        ...fusedExperts(layer, shape),
        weight(`${layer}.mlp.shared_experts.gate_up_proj.weight`, 2 * width, hiddenSize),
        weight(`${layer}.mlp.shared_experts.down_proj.weight`, hiddenSize, width),
        correctionBias(layer, shape),
      ];
    }),
  }),

  deepseek_v32: (shape: SyntheticShape): SyntheticModel => {
    const v3 = syntheticFamilies.deepseek_v3(shape);
    const [heads, dims] = [2, shape.headDim];
    const indexer = (layer: string) => [
      weight(`${layer}.wq_b.weight`, heads * dims, latentSizes(shape).q_lora_rank),
      weight(`${layer}.wk.weight`, dims, shape.hiddenSize),
      ones(`${layer}.k_norm.weight`, dims),
      weight(`${layer}.k_norm.bias`, dims),
      weight(`${layer}.weights_proj.weight`, heads, shape.hiddenSize),
    ];
    return {
      config: {
        ...v3.config,
        ...{ model_type: "deepseek_v32", architectures: ["DeepseekV32ForCausalLM"] },
        ...{ index_topk: 2048, index_n_heads: heads, index_head_dim: dims },
      },
      tensors: [
        ...v3.tensors,
        ...Array.from({ length: shape.numLayers }, (_, i) => indexer(`model.layers.${i}.self_attn.indexer`)).flat(),
      ],
    };
  },

  qwen3_vl_moe: (shape: SyntheticShape): SyntheticModel =>
    multimodal("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", shape, syntheticFamilies.qwen3_moe(shape)),

  qwen3_5_moe: (shape: SyntheticShape): SyntheticModel =>
    multimodal("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", shape, syntheticFamilies.qwen3_5_moe_text(shape)),

  gemma4: (shape: SyntheticShape): SyntheticModel =>
    multimodal("gemma4", "Gemma4ForConditionalGeneration", shape, syntheticFamilies.gemma4_text(shape)),

  llama4: (shape: SyntheticShape): SyntheticModel => {
    const text = syntheticFamilies.llama4_text(shape);
    return multimodal("llama4", "Llama4ForConditionalGeneration", shape, text, (name) => `language_model.${name}`);
  },
};

/** A text model inside a multimodal one, with a tensor of its other tower. */
function multimodal(
  modelType: string,
  architecture: string,
  shape: SyntheticShape,
  text: SyntheticModel,
  rename = (name: string) => name.replace(/^model\./, "model.language_model."),
): SyntheticModel {
  return {
    config: {
      ...{ model_type: modelType, architectures: [architecture], vision_config: {} },
      tie_word_embeddings: shape.tieWordEmbeddings,
      text_config: { ...text.config, model_type: `${modelType}_text` },
    },
    tensors: [
      ...text.tensors.map((tensor) => ({ ...tensor, name: rename(tensor.name) })),
      weight("model.visual.pos_embed.weight", 4, 8),
    ],
  };
}

/** DeepSeek-V3's routing and shared expert, whatever the attention. */
function groupedExpertsConfig(shape: SyntheticShape): { [key: string]: unknown } {
  return {
    ...{ head_dim: shape.headDim, first_k_dense_replace: 0, n_group: 1, topk_group: 1, norm_topk_prob: true },
    ...{ moe_intermediate_size: shape.moeIntermediateSize, n_routed_experts: shape.numExperts, n_shared_experts: 1 },
    rms_norm_eps: 1e-5,
  };
}

/** num_experts and num_shared_experts, as Tencent, LG and Arcee spell them. */
function sharedExpertsConfig(shape: SyntheticShape): { [key: string]: unknown } {
  return {
    ...{ head_dim: shape.headDim, num_experts: shape.numExperts, num_shared_experts: 1, rms_norm_eps: 1e-5 },
    ...{ moe_intermediate_size: shape.moeIntermediateSize, mlp_layer_types: Array(shape.numLayers).fill("sparse") },
  };
}

function correctionBias(layer: string, shape: SyntheticShape, name = "gate.e_score_correction_bias") {
  return weight(`${layer}.mlp.${name}`, shape.numExperts);
}

function shared(layer: string, shape: SyntheticShape, name = "mlp.shared_experts"): SyntheticTensor[] {
  return gatedMlp(`${layer}.${name}`, shape.hiddenSize, shape.moeIntermediateSize, llamaProjections);
}

/** Experts in two tensors under `mlp.experts`, outputs first. */
function fusedExperts(layer: string, { numExperts, hiddenSize, moeIntermediateSize }: SyntheticShape) {
  return [
    weight(`${layer}.mlp.gate.weight`, numExperts, hiddenSize),
    weight(`${layer}.mlp.experts.gate_up_proj`, numExperts, 2 * moeIntermediateSize, hiddenSize),
    weight(`${layer}.mlp.experts.down_proj`, numExperts, hiddenSize, moeIntermediateSize),
  ];
}

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
