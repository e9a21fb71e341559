/** config.json and tensor shapes of synthetic checkpoints, one function per family. */

export interface SyntheticShape {
  hiddenSize: number;
  numLayers: number;
  numExperts: number;
  numExpertsPerToken: number;
  /** Width of one routed expert. */
  moeIntermediateSize: number;
  vocabSize: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  /** Width of the shared expert (qwen2_moe). */
  sharedIntermediateSize: number;
  tieWordEmbeddings: boolean;
  maxPositionEmbeddings: number;
}

export type SyntheticFamily = keyof typeof syntheticFamilies;

/** A tensor and how to fill it: norms are ones. */
export interface SyntheticTensor {
  name: string;
  shape: number[];
  fill: "ones" | "weights";
}

export interface SyntheticModel {
  config: { [key: string]: unknown };
  tensors: SyntheticTensor[];
}

export const syntheticFamilies = {
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
      ...experts(`${layer}.mlp`, shape, ["gate_proj", "up_proj", "down_proj"]),
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
      ...experts(`${layer}.block_sparse_moe`, shape, ["w1", "w3", "w2"]),
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
      ...experts(`${layer}.mlp`, shape, ["gate_proj", "up_proj", "down_proj"]),
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
      ...experts(`${layer}.mlp`, shape, ["gate_proj", "up_proj", "down_proj"]),
      ...gatedMlp(`${layer}.mlp.shared_expert`, shape.hiddenSize, shape.sharedIntermediateSize, [
        "gate_proj",
        "up_proj",
        "down_proj",
      ]),
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
        ...experts(`${layer}.block_sparse_moe`, shape, ["w1", "w3", "w2"]),
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
      ...experts(`${layer}.block_sparse_moe`, shape, ["w1", "w3", "w2"]),
      weight(`${layer}.block_sparse_moe.e_score_correction_bias`, shape.numExperts),
    ]),
  }),
};

/** Latent attention with the sizes of DeepSeek-V3 in proportion: compressed queries and keys, half as many rotated dimensions. */
function latentSizes({ hiddenSize, headDim }: SyntheticShape) {
  return {
    q_lora_rank: Math.round(hiddenSize * 0.375),
    kv_lora_rank: hiddenSize / 4,
    qk_nope_head_dim: headDim,
    qk_rope_head_dim: headDim / 2,
    v_head_dim: headDim,
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

function latentAttention(layer: string, shape: SyntheticShape): SyntheticTensor[] {
  const { hiddenSize, numHeads } = shape;
  const { q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim } = latentSizes(shape);
  const prefix = `${layer}.self_attn`;
  return [
    weight(`${prefix}.q_a_proj.weight`, q_lora_rank, hiddenSize),
    ones(`${prefix}.q_a_layernorm.weight`, q_lora_rank),
    weight(`${prefix}.q_b_proj.weight`, numHeads * (qk_nope_head_dim + qk_rope_head_dim), q_lora_rank),
    weight(`${prefix}.kv_a_proj_with_mqa.weight`, kv_lora_rank + qk_rope_head_dim, hiddenSize),
    ones(`${prefix}.kv_a_layernorm.weight`, kv_lora_rank),
    weight(`${prefix}.kv_b_proj.weight`, numHeads * (qk_nope_head_dim + v_head_dim), kv_lora_rank),
    weight(`${prefix}.o_proj.weight`, hiddenSize, numHeads * v_head_dim),
  ];
}

const llamaProjections: ProjectionNames = ["gate_proj", "up_proj", "down_proj"];

/** Routed experts and one shared one under `mlp`, as DeepSeek, GLM and ERNIE name them. */
function deepseekExperts(layer: string, shape: SyntheticShape): SyntheticTensor[] {
  return [
    ...experts(`${layer}.mlp`, shape, llamaProjections),
    ...gatedMlp(`${layer}.mlp.shared_experts`, shape.hiddenSize, shape.moeIntermediateSize, llamaProjections),
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

function decoder(shape: SyntheticShape, block: (layer: string) => SyntheticTensor[]): SyntheticTensor[] {
  const { hiddenSize, vocabSize, numLayers, tieWordEmbeddings } = shape;
  return [
    weight("model.embed_tokens.weight", vocabSize, hiddenSize),
    ...Array.from({ length: numLayers }, (_, i) => {
      const layer = `model.layers.${i}`;
      return [
        ones(`${layer}.input_layernorm.weight`, hiddenSize),
        ...block(layer),
        ones(`${layer}.post_attention_layernorm.weight`, hiddenSize),
      ];
    }).flat(),
    ones("model.norm.weight", hiddenSize),
    ...(tieWordEmbeddings ? [] : [weight("lm_head.weight", vocabSize, hiddenSize)]),
  ];
}

function attention(
  layer: string,
  shape: SyntheticShape,
  options: { headNorms?: boolean; projectionNorms?: boolean; biases?: boolean },
): SyntheticTensor[] {
  const { hiddenSize, numHeads, numKeyValueHeads, headDim } = shape;
  const prefix = `${layer}.self_attn`;
  const queries = numHeads * headDim;
  const keys = numKeyValueHeads * headDim;
  const projections = [
    ["q_proj", queries],
    ["k_proj", keys],
    ["v_proj", keys],
  ] as const;
  return [
    ...projections.map(([name, out]) => weight(`${prefix}.${name}.weight`, out, hiddenSize)),
    ...(options.biases ? projections.map(([name, out]) => weight(`${prefix}.${name}.bias`, out)) : []),
    weight(`${prefix}.o_proj.weight`, hiddenSize, queries),
    ...(options.headNorms ? [ones(`${prefix}.q_norm.weight`, headDim), ones(`${prefix}.k_norm.weight`, headDim)] : []),
    ...(options.projectionNorms
      ? [ones(`${prefix}.q_norm.weight`, queries), ones(`${prefix}.k_norm.weight`, keys)]
      : []),
  ];
}

type ProjectionNames = [gateProj: string, upProj: string, downProj: string];

function experts(
  prefix: string,
  shape: SyntheticShape,
  names: ProjectionNames,
  router = "gate.weight",
): SyntheticTensor[] {
  return [
    weight(`${prefix}.${router}`, shape.numExperts, shape.hiddenSize),
    ...Array.from({ length: shape.numExperts }, (_, e) =>
      gatedMlp(`${prefix}.experts.${e}`, shape.hiddenSize, shape.moeIntermediateSize, names),
    ).flat(),
  ];
}

function gatedMlp(prefix: string, hidden: number, width: number, names: ProjectionNames): SyntheticTensor[] {
  const [gateProj, upProj, downProj] = names;
  return [
    weight(`${prefix}.${gateProj}.weight`, width, hidden),
    weight(`${prefix}.${upProj}.weight`, width, hidden),
    weight(`${prefix}.${downProj}.weight`, hidden, width),
  ];
}

function weight(name: string, ...shape: number[]): SyntheticTensor {
  return { name, shape, fill: "weights" };
}

function ones(name: string, size: number): SyntheticTensor {
  return { name, shape: [size], fill: "ones" };
}
