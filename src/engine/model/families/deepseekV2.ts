import { readChoice, readNumber, refuseUnless } from "../config";
import { decoderFamily } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { readGroupLimit } from "../groupLimit";
import { latentAttention } from "../latentAttention";
import { softmaxThenTopK, type RoutingRule } from "../routingRules";
import { flag, size } from "../settings";
import { afterFirst } from "../sparseLayers";
import { severalShared } from "./sharedExperts";

export const deepseekV2 = decoderFamily({
  modelType: "deepseek_v2",
  about: {
    architectures: ["DeepseekV2ForCausalLM"],
    examples: "DeepSeek-V2, DeepSeek-V2-Lite, DeepSeek-Coder-V2",
    attention: "latent",
  },
  sizes: { vocab: 102400, hidden: 4096, layers: 32, heads: 32, keyValueHeads: null, positions: 2048, epsilon: 1e-6 },
  attention: latentAttention({ rotary: { defaultTheta: 10_000 } }),
  feedForward: {
    sparse: afterFirst("first_k_dense_replace", 0),
    dense: { size: size("intermediate_size", 11008), bias: flag("mlp_bias", false) },
    count: { keys: ["n_routed_experts", "num_experts", "num_local_experts"], absent: 64, perToken: null },
    size: size("moe_intermediate_size", 1407),
    experts: { projections: llamaNames },
    shared: { ...severalShared("n_shared_experts", 2, 1407), bias: flag("mlp_bias", false) },
    routing: withinGroups,
  },
});

/**
 * Softmax over all experts, then top-k, within the best groups or not. `norm_topk_prob` has no effect in transformers,
 * whatever it says, and none here, so that numbers agree.
 */
function withinGroups(...[config, count]: Parameters<RoutingRule>): ReturnType<RoutingRule> {
  refuseUnless(config, "scoring_func", ["softmax"], "this family scores experts by a softmax");
  const method = readChoice(config, "topk_method", ["greedy", "group_limited_greedy"], "greedy");
  const none = { numGroups: null, topGroups: null };
  return softmaxThenTopK(false, {
    scalingFactor: readNumber(config, "routed_scaling_factor", { default: 1 }),
    groups: method === "greedy" ? null : readGroupLimit(config, count, "max", none),
  })(config, count);
}
