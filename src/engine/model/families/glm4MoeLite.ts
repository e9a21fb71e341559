import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { latentAttention } from "../latentAttention";
import { groupedSigmoidRouting } from "../routingRules";
import { size } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";
import { interleavedUnlessSaid } from "./deepseekV3";
import { severalShared } from "./sharedExperts";

export const glm4MoeLite = decoderFamily({
  modelType: "glm4_moe_lite",
  about: { architectures: ["Glm4MoeLiteForCausalLM"], examples: "GLM-4.7-Flash", attention: "latent" },
  sizes: { vocab: 154880, hidden: 2048, layers: 47, heads: 20, keyValueHeads: 20, positions: 202752, epsilon: 1e-5 },
  attention: latentAttention({
    sizes: { q_lora_rank: 768, qk_nope_head_dim: 192, v_head_dim: 256 },
    rotary: { defaultTheta: 10_000 },
    pairing: interleavedUnlessSaid,
  }),
  feedForward: {
    sparse: byLayerType(afterFirst("first_k_dense_replace", 1)),
    dense: { size: size("intermediate_size", 10240) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 64, perToken: 4 },
    size: size("moe_intermediate_size", 1536),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 1536),
    routing: groupedSigmoidRouting({ scalingFactor: 1.8 }),
  },
});
