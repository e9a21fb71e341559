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

function experts(prefix: string, shape: SyntheticShape, names: ProjectionNames): SyntheticTensor[] {
  return [
    weight(`${prefix}.gate.weight`, shape.numExperts, shape.hiddenSize),
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
