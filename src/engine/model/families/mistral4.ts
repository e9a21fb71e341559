import { readInt, readOptionalNumber } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { latentAttention } from "../latentAttention";
import { groupedSoftmaxRouting } from "../routingRules";
import { size } from "../settings";
import { afterFirst } from "../sparseLayers";
import { interleavedUnlessSaid } from "./deepseekV3";
import { severalShared } from "./sharedExperts";

/** DeepSeek's attention with queries stretched by position, and a softmax's scores within groups. */
export const mistral4 = decoderFamily({
  modelType: "mistral4",
  about: { architectures: ["Mistral4ForCausalLM"], examples: "Mistral-Small-4", attention: "latent" },
  sizes: { vocab: 131072, hidden: 4096, layers: 36, heads: 32, keyValueHeads: 32, positions: 1048576, epsilon: 1e-6 },
  attention: latentAttention({
    sizes: { q_lora_rank: 1024, kv_lora_rank: 256, qk_nope_head_dim: 64 },
    ofWholeHead: true,
    rotary: {
      defaultTheta: 10_000,
      defaultParameters: {
        ...{ rope_type: "yarn", factor: 128, original_max_position_embeddings: 8192, beta_fast: 32, beta_slow: 1 },
        ...{ mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1 },
      },
    },
    pairing: interleavedUnlessSaid,
    positionScale: (parameters) => {
      const coefficient = readOptionalNumber(parameters, "llama_4_scaling_beta");
      if (coefficient === null) return null;
      return { coefficient, period: readInt(parameters, "original_max_position_embeddings", { min: 1 }), offset: 0 };
    },
  }),
  feedForward: {
    sparse: afterFirst("first_k_dense_replace", 0),
    dense: { size: size("intermediate_size", 12288) },
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 128, perToken: 4 },
    size: size("moe_intermediate_size", 2048),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 2048),
    routing: groupedSoftmaxRouting({ scalingFactor: 1 }),
  },
});
