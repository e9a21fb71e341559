import type { Config } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { sameWindow } from "../layerTypes";
import { softmaxThenTopK } from "../routingRules";
import { flag, size, sizeOrNone } from "../settings";
import { inSteps } from "../sparseLayers";

const spellings = ["num_experts", "num_local_experts"] as const;

/** Queries and keys are normalised over each head. */
export const qwen3Moe = decoderFamily({
  modelType: "qwen3_moe",
  about: {
    architectures: ["Qwen3MoeForCausalLM"],
    examples: "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
    attention: "grouped-query",
  },
  sizes: { vocab: 151936, hidden: 2048, layers: 24, heads: 32, keyValueHeads: 4, positions: 32768, epsilon: 1e-6 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000 },
    bias: flag("attention_bias", false),
    windows: sameWindow(usedWindow),
    norms: perHead,
  }),
  feedForward: {
    sparse: inSteps(spellings, 128),
    dense: { size: size("intermediate_size", 6144) },
    count: { keys: spellings, absent: 128, perToken: 8, written: spellings },
    size: size("moe_intermediate_size", 768),
    experts: { projections: llamaNames },
    routing: softmaxThenTopK(flag("norm_topk_prob", false)),
  },
});

/** Qwen's window counts only beside `use_sliding_window`. */
export function usedWindow(config: Config): number | null {
  return flag("use_sliding_window", false)(config) ? sizeOrNone("sliding_window", 4096)(config) : null;
}
