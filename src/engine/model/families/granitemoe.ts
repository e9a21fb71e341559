import { readNumber } from "../config";
import { decoderFamily, type DecoderFamily } from "../decoderFamily";
import { groupedQuery } from "../groupedQuery";
import { topKThenSoftmax } from "../routingRules";
import { flag, number, size } from "../settings";

/** Multipliers on embeddings, attention scores, residual branches and logits, of Granite's dense and MoE models. */
export const graniteMultipliers = {
  sizes: { vocab: 32000, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-6 },
  embeddingMultiplier: (config) => readNumber(config, "embedding_multiplier", { default: 1 }),
  residualMultiplier: number("residual_multiplier", 1),
  headScale: (config) => 1 / readNumber(config, "logits_scaling", { min: Number.MIN_VALUE, default: 1 }),
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("attention_bias", false),
    scale: number("attention_multiplier", 1),
  }),
} as const satisfies Partial<DecoderFamily>;

/** Fused experts. */
export const graniteTable: DecoderFamily = {
  modelType: "granitemoe",
  about: {
    architectures: ["GraniteMoeForCausalLM"],
    examples: "Granite-3.0-1B-A400M, Granite-3.1-3B-A800M",
    attention: "grouped-query",
  },
  ...graniteMultipliers,
  feedForward: {
    block: ["block_sparse_moe"],
    router: ["router.layer.weight", "router.weight"],
    count: { keys: ["num_local_experts", "num_experts"], absent: 8, perToken: 2 },
    size: size("intermediate_size", 11008),
    // Released names first, then those that transformers 5 holds in memory.
    experts: {
      gateUp: ["input_linear.weight", "experts.gate_up_proj"],
      down: ["output_linear.weight", "experts.down_proj"],
    },
    routing: topKThenSoftmax,
  },
};

export const granitemoe = decoderFamily(graniteTable);
