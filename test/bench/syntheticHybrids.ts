import type { SyntheticModel } from "./syntheticFamilies";
import {
  attention,
  decoder,
  experts,
  gatedMlp,
  llamaProjections,
  mixtralProjections,
  ones,
  weight,
  type SyntheticShape,
  type SyntheticTensor,
} from "./syntheticTensors";

type CommonConfig = (shape: SyntheticShape, modelType: string, architecture: string) => { [key: string]: unknown };

/** Families whose layers differ in kind; those of a state come first, so that benches of few layers measure them. */
export function hybridFamilies(common: CommonConfig) {
  const config = (shape: SyntheticShape, modelType: string, architecture: string) => ({
    ...common(shape, modelType, architecture),
    head_dim: shape.headDim,
    moe_intermediate_size: shape.moeIntermediateSize,
    num_experts: shape.numExperts,
    rms_norm_eps: 1e-6,
  });
  const qwen = (shape: SyntheticShape, modelType: string, architecture: string) => ({
    ...config(shape, modelType, architecture),
    full_attention_interval: 4,
    linear_conv_kernel_dim: 4,
    linear_key_head_dim: shape.headDim,
    linear_value_head_dim: shape.headDim,
    linear_num_key_heads: shape.numHeads / 2,
    linear_num_value_heads: shape.numHeads,
    shared_expert_intermediate_size: shape.sharedIntermediateSize,
  });
  return {
    qwen3_next: (shape: SyntheticShape): SyntheticModel => ({
      config: qwen(shape, "qwen3_next", "Qwen3NextForCausalLM"),
      tensors: decoder(shape, (layer) => qwenLayer(layer, shape, "by-key-head")),
    }),

    qwen3_5_moe_text: (shape: SyntheticShape): SyntheticModel => ({
      config: qwen(shape, "qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"),
      tensors: decoder(shape, (layer) => qwenLayer(layer, shape, "separate")),
    }),

    gemma4_text: (shape: SyntheticShape): SyntheticModel => ({
      config: {
        ...common(shape, "gemma4_text", "Gemma4ForCausalLM"),
        head_dim: shape.headDim,
        global_head_dim: shape.headDim,
        hidden_size_per_layer_input: 0,
        enable_moe_block: true,
        intermediate_size: shape.moeIntermediateSize,
        moe_intermediate_size: shape.moeIntermediateSize,
        num_experts: shape.numExperts,
        top_k_experts: shape.numExpertsPerToken,
        sliding_window: 512,
      },
      tensors: decoder(shape, (layer) => {
        const { numExperts, hiddenSize, moeIntermediateSize } = shape;
        const norms = ["pre_feedforward_layernorm", "pre_feedforward_layernorm_2", "post_feedforward_layernorm"];
        return [
          ...attention(layer, shape, { headNorms: true }),
          ...[...norms, "post_feedforward_layernorm_1", "post_feedforward_layernorm_2"].map((name) =>
            ones(`${layer}.${name}.weight`, hiddenSize),
          ),
          ones(`${layer}.layer_scalar`, 1),
          weight(`${layer}.router.proj.weight`, numExperts, hiddenSize),
          ones(`${layer}.router.scale`, hiddenSize),
          ones(`${layer}.router.per_expert_scale`, numExperts),
          weight(`${layer}.experts.gate_up_proj`, numExperts, 2 * moeIntermediateSize, hiddenSize),
          weight(`${layer}.experts.down_proj`, numExperts, hiddenSize, moeIntermediateSize),
          ...gatedMlp(`${layer}.mlp`, hiddenSize, moeIntermediateSize, llamaProjections),
        ];
      }),
    }),

    llama4_text: (shape: SyntheticShape): SyntheticModel => ({
      config: {
        ...common(shape, "llama4_text", "Llama4ForCausalLM"),
        head_dim: shape.headDim,
        intermediate_size: shape.moeIntermediateSize,
        intermediate_size_mlp: shape.moeIntermediateSize,
        num_local_experts: shape.numExperts,
        interleave_moe_layer_step: 1,
        attention_chunk_size: 8192,
        rms_norm_eps: 1e-5,
      },
      tensors: decoder(shape, (layer) => {
        const { numExperts, hiddenSize, moeIntermediateSize } = shape;
        const prefix = `${layer}.feed_forward`;
        return [
          ...attention(layer, shape, {}),
          weight(`${prefix}.router.weight`, numExperts, hiddenSize),
          weight(`${prefix}.experts.gate_up_proj`, numExperts, hiddenSize, 2 * moeIntermediateSize),
          weight(`${prefix}.experts.down_proj`, numExperts, moeIntermediateSize, hiddenSize),
          ...gatedMlp(`${prefix}.shared_expert`, hiddenSize, moeIntermediateSize, llamaProjections),
        ];
      }),
    }),

    lfm2_moe: (shape: SyntheticShape): SyntheticModel => ({
      config: {
        ...config(shape, "lfm2_moe", "Lfm2MoeForCausalLM"),
        conv_L_cache: 3,
        conv_bias: false,
        num_dense_layers: 0,
        layer_types: Array.from({ length: shape.numLayers }, (_, i) => (i % 4 === 3 ? "full_attention" : "conv")),
        use_expert_bias: true,
      },
      tensors: decoder(shape, (layer) => lfm2Layer(layer, shape)).map(({ name, ...rest }) => ({
        ...rest,
        name: name
          .replace("input_layernorm", "operator_norm")
          .replace("post_attention_layernorm", "ffn_norm")
          .replace("model.norm", "model.embedding_norm"),
      })),
    }),
  };
}

/** Every fourth layer attends, as configs above say. */
function attends(layer: string): boolean {
  return Number(layer.split(".").at(-1)) % 4 === 3;
}

function qwenLayer(layer: string, shape: SyntheticShape, input: "by-key-head" | "separate"): SyntheticTensor[] {
  const { hiddenSize, numHeads, headDim, sharedIntermediateSize } = shape;
  const gatedQueries = `${layer}.self_attn.q_proj.weight`;
  const prefix = `${layer}.linear_attn`;
  const [keys, values] = [(numHeads / 2) * headDim, numHeads * headDim];
  const projections: [name: string, outputs: number][] =
    input === "by-key-head"
      ? [
          ["in_proj_qkvz", 2 * keys + 2 * values],
          ["in_proj_ba", 2 * numHeads],
        ]
      : [
          ["in_proj_qkv", 2 * keys + values],
          ["in_proj_z", values],
          ["in_proj_b", numHeads],
          ["in_proj_a", numHeads],
        ];
  return [
    ...(attends(layer)
      ? [
          ...attention(layer, shape, { headNorms: true }).filter(({ name }) => name !== gatedQueries),
          weight(gatedQueries, 2 * numHeads * headDim, hiddenSize),
        ]
      : [
          ...projections.map(([name, outputs]) => weight(`${prefix}.${name}.weight`, outputs, hiddenSize)),
          weight(`${prefix}.conv1d.weight`, 2 * keys + values, 1, 4),
          weight(`${prefix}.A_log`, numHeads),
          weight(`${prefix}.dt_bias`, numHeads),
          ones(`${prefix}.norm.weight`, headDim),
          weight(`${prefix}.out_proj.weight`, hiddenSize, values),
        ]),
    ...experts(`${layer}.mlp`, shape, llamaProjections),
    ...gatedMlp(`${layer}.mlp.shared_expert`, hiddenSize, sharedIntermediateSize, llamaProjections),
    weight(`${layer}.mlp.shared_expert_gate.weight`, 1, hiddenSize),
  ];
}

function lfm2Layer(layer: string, shape: SyntheticShape): SyntheticTensor[] {
  const { hiddenSize, headDim, numExperts } = shape;
  const prefix = `${layer}.self_attn`;
  return [
    ...(attends(layer)
      ? [
          ...attention(layer, shape, {}).map((tensor) => ({
            ...tensor,
            name: tensor.name.replace("o_proj", "out_proj"),
          })),
          ones(`${prefix}.q_layernorm.weight`, headDim),
          ones(`${prefix}.k_layernorm.weight`, headDim),
        ]
      : [
          weight(`${layer}.conv.in_proj.weight`, 3 * hiddenSize, hiddenSize),
          weight(`${layer}.conv.conv.weight`, hiddenSize, 1, 3),
          weight(`${layer}.conv.out_proj.weight`, hiddenSize, hiddenSize),
        ]),
    ...experts(`${layer}.feed_forward`, shape, mixtralProjections),
    weight(`${layer}.feed_forward.expert_bias`, numExperts),
  ];
}
