import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { groupedSigmoidRouting } from "../routingRules";
import { flag, size } from "../settings";
import { severalShared } from "./sharedExperts";

export const solarOpen = decoderFamily({
  modelType: "solar_open",
  about: { architectures: ["SolarOpenForCausalLM"], examples: "Solar-Open-100B", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 196608, hidden: 4096, layers: 48, heads: 64, keyValueHeads: 8, headDim: 128 },
    ...{ positions: 131072, epsilon: 1e-5 },
  },
  only: {
    first_k_dense_replace: [[0], "this family has experts in every layer"],
    use_qk_norm: [[false], "this family does not normalise queries and keys"],
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 1_000_000 },
    bias: flag("attention_bias", false),
    outputBias: false,
  }),
  feedForward: {
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 128, perToken: 8 },
    size: size("moe_intermediate_size", 1280),
    experts: { projections: llamaNames },
    shared: severalShared("n_shared_experts", 1, 1280),
    routing: groupedSigmoidRouting({ scalingFactor: 1 }),
  },
});
