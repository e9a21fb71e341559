import type { Config } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { latentAttention } from "../latentAttention";
import { groupedSigmoidRouting } from "../routingRules";
import { flag, size } from "../settings";
import { afterFirst } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

/** The multi-token-prediction layer behind the last one is left untouched. */
export const deepseekV3 = decoderFamily({
  modelType: "deepseek_v3",
  about: {
    architectures: ["DeepseekV3ForCausalLM"],
    examples: "DeepSeek-V3, DeepSeek-R1, Moonlight, Kimi-K2",
    attention: "latent",
  },
  sizes: { vocab: 129280, hidden: 7168, layers: 61, heads: 128, keyValueHeads: 128, positions: 4096, epsilon: 1e-6 },
  attention: latentAttention({
    rotary: { defaultTheta: 10_000 },
    pairing: interleavedUnlessSaid,
  }),
  feedForward: {
    sparse: afterFirst("first_k_dense_replace", 3),
    dense: { size: size("intermediate_size", 18432) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 256, perToken: 8 },
    size: size("moe_intermediate_size", 2048),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 2048),
    routing: groupedSigmoidRouting({ scalingFactor: 2.5, numGroups: 8, topGroups: 4 }),
  },
});

/** `rope_interleave` of DeepSeek's relatives. */
export function interleavedUnlessSaid(config: Config): "interleaved" | "half" {
  return flag("rope_interleave", true)(config) ? "interleaved" : "half";
}
