import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perProjection } from "../groupedQuery";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";

const spellings = ["num_experts", "num_local_experts"] as const;

/** Norms lie behind each half of a layer, none before it. */
export const flexOlmo = decoderFamily({
  modelType: "flex_olmo",
  about: { architectures: ["FlexOlmoForCausalLM"], examples: "FlexOlmo-7x7B", attention: "grouped-query" },
  sizes: { vocab: 100352, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 4096, epsilon: 1e-6 },
  norms: {
    ...{ beforeAttention: null, afterAttention: "post_attention_layernorm" },
    ...{ beforeFeedForward: null, afterFeedForward: "post_feedforward_layernorm" },
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 500_000 },
    bias: flag("attention_bias", false),
    norms: perProjection,
  }),
  feedForward: {
    count: { keys: spellings, absent: 7, perToken: 5 },
    size: size("intermediate_size", 11008),
    experts: { projections: llamaNames },
    routing: softmaxThenTopK(flag("norm_topk_prob", false)),
  },
});
