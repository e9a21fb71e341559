import { readBoolean } from "../config";
import { decoderFamily } from "../decoderFamily";
import { mixtralNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { byType, readShortConv } from "../hybridAttention";
import { sigmoidRouting } from "../routingRules";
import { flag, number, size } from "../settings";
import { afterFirst } from "../sparseLayers";

/** Short convolutions with attention in between. */
export const lfm2Moe = decoderFamily({
  modelType: "lfm2_moe",
  about: {
    architectures: ["Lfm2MoeForCausalLM"],
    examples: "LFM2-8B-A1B, LFM2-24B-A2B",
    attention: "gated short convolution and grouped-query",
  },
  sizes: {
    ...{ vocab: 65536, hidden: 2048, layers: 32, heads: 32, keyValueHeads: 8, positions: 128_000 },
    ...{ epsilon: 1e-5, epsilonKey: "norm_eps" },
  },
  norms: {
    ...{ beforeAttention: "operator_norm", afterAttention: null },
    ...{ beforeFeedForward: "ffn_norm", afterFeedForward: null },
  },
  finalNorm: "model.embedding_norm",
  // The released spelling wins in transformers.
  tied: (config) => readBoolean(config, "tie_embedding", readBoolean(config, "tie_word_embeddings", true)),
  attention: byType({
    conv: readShortConv({ kernel: size("conv_L_cache", 3), bias: flag("conv_bias", false) }),
    full_attention: groupedQuery({
      rotary: { defaultTheta: 1_000_000 },
      norms: { query: "q_layernorm", key: "k_layernorm", scope: "head" },
      output: "out_proj",
    }),
  }),
  feedForward: {
    sparse: afterFirst("num_dense_layers", 2),
    dense: { size: size("intermediate_size", 7168), name: "feed_forward", projections: mixtralNames },
    // It has no key: transformers always takes silu.
    activation: { kind: "gated", activation: "silu" },
    block: ["feed_forward"],
    correctionBias: ["expert_bias"],
    count: { keys: ["num_experts"], absent: 32, perToken: 4 },
    size: size("moe_intermediate_size", 1792),
    experts: { projections: mixtralNames },
    routing: sigmoidRouting((config) => ({
      renormalise: flag("norm_topk_prob", true)(config),
      epsilon: 1e-6,
      scalingFactor: number("routed_scaling_factor", 1)(config),
      useCorrectionBias: flag("use_expert_bias", true)(config),
    })),
  },
});
