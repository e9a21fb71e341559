import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { groupedSigmoidRouting } from "../routingRules";
import { flag, size } from "../settings";
import { afterFirst } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

/** Half of each head is rotated. */
export const glm4Moe = decoderFamily({
  modelType: "glm4_moe",
  about: {
    architectures: ["Glm4MoeForCausalLM"],
    examples: "GLM-4.5, GLM-4.5-Air, GLM-4.6, GLM-4.7",
    attention: "grouped-query",
  },
  sizes: { vocab: 151552, hidden: 4096, layers: 46, heads: 96, keyValueHeads: 8, positions: 131072, epsilon: 1e-5 },
  attention: groupedQuery({
    rotary: { defaultTheta: 10_000, partialFactor: () => 0.5 },
    bias: flag("attention_bias", false),
    outputBias: false,
    norms: (config) => (flag("use_qk_norm", false)(config) ? perHead : null),
  }),
  feedForward: {
    sparse: afterFirst("first_k_dense_replace", 1),
    dense: { size: size("intermediate_size", 10944) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 128, perToken: 8 },
    size: size("moe_intermediate_size", 1408),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 1408),
    routing: groupedSigmoidRouting({ scalingFactor: 1 }),
  },
});
