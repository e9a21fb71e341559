import { readGatedActivation } from "../activation";
import { readBoolean, readChoice, readNumber, refuseUnless, type Config } from "../config";
import { readDeepseekFeedForward } from "../deepseekSparsity";
import { describeDecoder, readSizes } from "../decoder";
import type { RoutingDescription } from "../description";
import { writeNumExperts, type ExpertCount, type ExpertCountKeys } from "../expertCount";
import type { ModelFamily } from "../family";
import { readGroupLimit } from "../groupLimit";
import { readLatentAttention, readLatentSizes } from "../latentAttention";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["n_routed_experts", "num_experts", "num_local_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 64, numExpertsPerToken: null },
};

/** DeepSeek-V2, V2-Lite, Coder-V2. */
export const deepseekV2: ModelFamily = {
  modelType: "deepseek_v2",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 102400,
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: null,
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, maxPositions, normEpsilon } = sizes;
    const latent = readLatentSizes(config);
    return describeDecoder({
      family: "deepseek_v2",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim: latent.ropeHeadDim,
        maxPositions,
        defaultTheta: 10_000,
        pairing: "interleaved",
        partialFactor: null,
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: readLatentAttention(config, weights, sizes, latent),
      feedForward: readDeepseekFeedForward(config, weights, {
        sizes,
        activation: readGatedActivation(config),
        experts,
        routing: (count) => readRouting(config, count),
        correctionBias: false,
        mlpBias: readBoolean(config, "mlp_bias", false),
        defaults: { dense: 11008, expert: 1407, shared: 2, denseLayers: 0 },
      }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["n_routed_experts"]),
  perExpertTensors: () => [],
};

/**
 * Softmax over all experts, then top-k, within the best groups or not. `norm_topk_prob` has no effect in transformers,
 * whatever it says, and none here, so that numbers agree.
 */
function readRouting(config: Config, count: ExpertCount): RoutingDescription {
  refuseUnless(config, "scoring_func", ["softmax"], "this family scores experts by a softmax");
  const method = readChoice(config, "topk_method", ["greedy", "group_limited_greedy"], "greedy");
  return {
    kind: "softmax",
    softmax: "before",
    renormalise: false,
    epsilon: 0,
    epsilonMode: "add",
    scalingFactor: readNumber(config, "routed_scaling_factor", { default: 1 }),
    groups: method === "greedy" ? null : readGroupLimit(config, count, "max", { numGroups: null, topGroups: null }),
    useCorrectionBias: false,
  };
}
