import { readInt, readNumber } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { softmaxThenTopK } from "../routingRules";
import { flag, size } from "../settings";
import type { SparseRule } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

/** Softmax scores, a correction bias for selection, interleaved rotary pairs. */
export const ernie45Moe = decoderFamily({
  modelType: "ernie4_5_moe",
  about: {
    architectures: ["Ernie4_5_MoeForCausalLM"],
    examples: "ERNIE-4.5-21B-A3B, ERNIE-4.5-300B-A47B",
    attention: "grouped-query",
  },
  sizes: { vocab: 103424, hidden: 2560, layers: 28, heads: 20, keyValueHeads: 4, positions: 131072, epsilon: 1e-5 },
  only: { moe_gate: [["topk", "top2_fused", "topk_fused"], "Reroute supports top-k routing"] },
  tied: true,
  headBias: flag("use_bias", false),
  attention: groupedQuery({
    rotary: { defaultTheta: 500_000, pairing: "interleaved" },
    bias: flag("use_bias", false),
  }),
  feedForward: {
    sparse: betweenIndices,
    dense: { size: size("intermediate_size", 12288), bias: flag("use_bias", false) },
    // As released, and in memory.
    correctionBias: ["moe_statics.e_score_correction_bias", "gate.moe_statics.e_score_correction_bias"],
    leadingOne: true,
    count: {
      ...{ keys: ["moe_num_experts", "num_experts"], absent: 64, perToken: 6 },
      perTokenKey: ["moe_k", "num_experts_per_tok"],
    },
    size: size("moe_intermediate_size", 1536),
    experts: { projections: llamaNames },
    shared: { ...severalShared("moe_num_shared_experts", 2, 1536), bias: flag("use_bias", false) },
    routing: softmaxThenTopK(true, (config) => ({
      epsilon: readNumber(config, "moe_norm_min", { min: 0, default: 1e-12 }),
      epsilonMode: "clamp",
      useCorrectionBias: true,
    })),
  },
  // The remote code of released checkpoints caps each expert's tokens by a list of three numbers.
  alsoWritten: (config, numExperts) => {
    const capacity = config["moe_capacity"];
    return Array.isArray(capacity) ? { ...config, moe_capacity: capacity.map(() => numExperts) } : config;
  },
});

/** Every `moe_layer_interval`-th layer from `moe_layer_start_index` to `moe_layer_end_index`, -1 for the last. */
function betweenIndices(...[config, { numLayers }]: Parameters<SparseRule>): ReturnType<SparseRule> {
  const first = readInt(config, "moe_layer_start_index", { min: 0, default: 1 });
  const end = readInt(config, "moe_layer_end_index", { min: -1, default: -1 });
  const interval = readInt(config, "moe_layer_interval", { min: 1, default: 1 });
  const last = end === -1 ? numLayers - 1 : end;
  return {
    isSparse: (layer) => (layer + 1) % interval === 0 && layer >= first && layer <= last,
    because: "moe_layer_start_index, moe_layer_end_index, moe_layer_interval",
  };
}
