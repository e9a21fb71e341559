import { decoderFamily } from "../decoderFamily";
import { groupedQuery, perHead, perProjection } from "../groupedQuery";
import { sameWindow, windowByType } from "../layerTypes";
import { flag, size, sizeOrNone } from "../settings";
import { graniteMultipliers } from "./granitemoe";
import { hunyuanAttention } from "./hunyuanV1Moe";
import { usedWindow } from "./qwen3Moe";

/* Dense families built as Llama is: a norm before each half of a layer (OLMo 2: behind it), a gated MLP in every layer. */

/** Biases are options of this family. */
export const llama = decoderFamily({
  modelType: "llama",
  about: {
    architectures: ["LlamaForCausalLM"],
    examples: "Llama-2, Llama-3, Sheared-LLaMA, deepseek-llm-7b, SmolLM2",
    attention: "grouped-query",
  },
  sizes: { vocab: 32000, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-6 },
  only: { pretraining_tp: [[1], "slices of tensor parallelism round differently"] },
  attention: groupedQuery({ rotary: { defaultTheta: 10_000 }, bias: flag("attention_bias", false) }),
  feedForward: { dense: { size: size("intermediate_size", 11008), bias: flag("mlp_bias", false) } },
});

/** A window in every layer, where config.json has one. */
export const mistral = decoderFamily({
  modelType: "mistral",
  about: { architectures: ["MistralForCausalLM"], examples: "Mistral-7B, Mistral-Nemo", attention: "grouped-query" },
  sizes: { vocab: 32000, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 8, positions: 131072, epsilon: 1e-6 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    windows: sameWindow(sizeOrNone("sliding_window", 4096)),
  }),
  feedForward: { dense: { size: size("intermediate_size", 14336) } },
});

/** Layers from max_window_layers on slide, where a window is used at all. */
const behindWindowLayers = windowByType(
  usedWindow,
  (config) => {
    const window = usedWindow(config);
    const first = size("max_window_layers", 28, { min: 0 })(config);
    return (layer) => window !== null && layer >= first;
  },
  "full_attention in layer_types unless use_sliding_window and sliding_window are set",
);

/** Biases on queries, keys and values only. */
export const qwen2 = decoderFamily({
  modelType: "qwen2",
  about: { architectures: ["Qwen2ForCausalLM"], examples: "Qwen2, Qwen2.5, Qwen1.5", attention: "grouped-query" },
  sizes: { vocab: 151936, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 32, positions: 32768, epsilon: 1e-6 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: true,
    outputBias: false,
    windows: behindWindowLayers,
  }),
  feedForward: { dense: { size: size("intermediate_size", 22016) } },
});

/** Queries and keys are normalised over each head. */
export const qwen3 = decoderFamily({
  modelType: "qwen3",
  about: { architectures: ["Qwen3ForCausalLM"], examples: "Qwen3-0.6B to Qwen3-32B", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 151936, hidden: 4096, layers: 32, heads: 32, keyValueHeads: 32, headDim: 128 },
    ...{ positions: 32768, epsilon: 1e-6 },
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("attention_bias", false),
    norms: perHead,
    windows: behindWindowLayers,
  }),
  feedForward: { dense: { size: size("intermediate_size", 22016) } },
});

/** Granite's multipliers. */
export const granite = decoderFamily({
  modelType: "granite",
  about: {
    architectures: ["GraniteForCausalLM"],
    examples: "Granite-3.0-2B, Granite-3.3-8B",
    attention: "grouped-query",
  },
  ...graniteMultipliers,
  feedForward: { dense: { size: size("intermediate_size", 11008), bias: flag("mlp_bias", false) } },
});

/** Queries and keys are normalised after the rotation. */
export const hunyuanV1Dense = decoderFamily({
  modelType: "hunyuan_v1_dense",
  about: {
    architectures: ["HunYuanDenseV1ForCausalLM"],
    examples: "Hunyuan-0.5B to Hunyuan-7B",
    attention: "grouped-query",
  },
  sizes: { vocab: 290943, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-5 },
  only: {
    use_cla: [[false], "Reroute does not support attention shared across layers"],
    mlp_bias: [[false], "this family has no biases in its feed-forward parts"],
  },
  attention: hunyuanAttention,
  feedForward: { dense: { size: size("intermediate_size", 11008) } },
});

/** Interleaved rotary pairs; one option for all biases. */
export const ernie45 = decoderFamily({
  modelType: "ernie4_5",
  about: { architectures: ["Ernie4_5ForCausalLM"], examples: "ERNIE-4.5-0.3B", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 103424, hidden: 1024, layers: 18, heads: 16, keyValueHeads: 2, headDim: 128 },
    ...{ positions: 131072, epsilon: 1e-5 },
  },
  tied: true,
  attention: groupedQuery({
    rotary: { defaultTheta: 500_000, pairing: "interleaved" },
    bias: flag("use_bias", false),
  }),
  feedForward: { dense: { size: size("intermediate_size", 3072), bias: flag("use_bias", false) } },
});

/** One tensor for queries, keys and values, one for gate and up; long rotary factors; part of a head may turn. */
export const phi3 = decoderFamily({
  modelType: "phi3",
  about: {
    architectures: ["Phi3ForCausalLM"],
    examples: "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini",
    attention: "grouped-query",
  },
  sizes: { vocab: 32064, hidden: 3072, layers: 32, heads: 32, keyValueHeads: null, positions: 4096, epsilon: 1e-5 },
  only: { attention_bias: [[false], "this family has no biases"] },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000, partialFactor: () => 1 },
    joined: "qkv_proj",
    windows: sameWindow(sizeOrNone("sliding_window", null)),
  }),
  feedForward: { joined: ["gate_up_proj", "down_proj"], dense: { size: size("intermediate_size", 8192) } },
});

/** Norms lie behind each half of a layer, none before it; queries and keys are normalised over the whole projection. */
export const olmo2 = decoderFamily({
  modelType: "olmo2",
  about: { architectures: ["Olmo2ForCausalLM"], examples: "OLMo-2-1B to OLMo-2-32B", attention: "grouped-query" },
  sizes: { vocab: 50304, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-5 },
  norms: {
    ...{ beforeAttention: null, afterAttention: "post_attention_layernorm" },
    ...{ beforeFeedForward: null, afterFeedForward: "post_feedforward_layernorm" },
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("attention_bias", false),
    norms: perProjection,
  }),
  feedForward: { dense: { size: size("intermediate_size", 11008) } },
});

/** Norms before and behind each half; half of each head turns, in interleaved pairs. */
export const glm4 = decoderFamily({
  modelType: "glm4",
  about: { architectures: ["Glm4ForCausalLM"], examples: "GLM-4-9B-0414, GLM-4-32B-0414", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 151552, hidden: 4096, layers: 40, heads: 32, keyValueHeads: 2, headDim: 128 },
    ...{ positions: 131072, epsilon: 1.5625e-7 },
  },
  norms: {
    ...{ beforeAttention: "input_layernorm", afterAttention: "post_self_attn_layernorm" },
    ...{ beforeFeedForward: "post_attention_layernorm", afterFeedForward: "post_mlp_layernorm" },
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000, pairing: "interleaved", partialFactor: () => 0.5 },
    bias: flag("attention_bias", true),
    outputBias: false,
  }),
  feedForward: { joined: ["gate_up_proj", "down_proj"], dense: { size: size("intermediate_size", 13696) } },
});
