import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { sigmoidRouting } from "../routingRules";
import { flag, number, size } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

export const hyV3 = decoderFamily({
  modelType: "hy_v3",
  about: { architectures: ["HYV3ForCausalLM"], examples: "Hy3", attention: "grouped-query" },
  sizes: {
    ...{ vocab: 120832, hidden: 4096, layers: 80, heads: 64, keyValueHeads: 8, headDim: 128 },
    ...{ positions: 131072, epsilon: 1e-5 },
  },
  only: {
    num_shared_experts: [[1, 2, 3, 4, 5, 6, 7, 8], "this family has shared experts in every sparse layer"],
    qk_norm: [[true], "this family normalises queries and keys"],
    route_norm: [[true], "this family divides routing weights by their sum"],
    moe_router_use_sigmoid: [[true], "this family scores experts by a sigmoid"],
    moe_router_enable_expert_bias: [[true], "this family selects experts with a correction bias"],
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 11_158_840 },
    bias: flag("attention_bias", false),
    norms: perHead,
  }),
  feedForward: {
    sparse: byLayerType(afterFirst("first_k_dense_replace", 1)),
    dense: { size: size("intermediate_size", 13312), bias: flag("mlp_bias", false) },
    // As released, and in memory.
    router: ["router.gate.weight", "gate.weight"],
    correctionBias: ["expert_bias", "e_score_correction_bias"],
    count: { keys: ["num_experts", "num_local_experts"], absent: 192, perToken: 8 },
    size: size("moe_intermediate_size", 1536),
    experts: { projections: llamaNames },
    shared: {
      ...severalShared("num_shared_experts", 1, 1536, ["mlp.shared_mlp", "mlp.shared_experts"]),
      bias: flag("mlp_bias", false),
    },
    routing: (config, count) =>
      sigmoidRouting({ scalingFactor: number("router_scaling_factor", 2.826)(config) })(config, count),
  },
});
