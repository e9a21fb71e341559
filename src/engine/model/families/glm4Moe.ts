import { readGatedActivation } from "../activation";
import { readBoolean } from "../config";
import { readDeepseekFeedForward } from "../deepseekSparsity";
import { describeDecoder, readSizes } from "../decoder";
import { writeNumExperts, type ExpertCountKeys } from "../expertCount";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readRotary } from "../rotaryConfig";
import { readSigmoidRouting } from "../sigmoidRouting";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["n_routed_experts", "num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 128, numExpertsPerToken: 8 },
};

/** GLM-4.5, GLM-4.5-Air, GLM-4.6: grouped-query attention that rotates half of each head, DeepSeek-V3's routing. */
export const glm4Moe: ModelFamily = {
  modelType: "glm4_moe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 151552,
      hidden_size: 4096,
      num_hidden_layers: 46,
      num_attention_heads: 96,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, headDim, maxPositions, normEpsilon } = sizes;
    const inputBias = readBoolean(config, "attention_bias", false);
    const norms = readBoolean(config, "use_qk_norm", false)
      ? ({ query: "q_norm", key: "k_norm", scope: "head", afterRotary: false } as const)
      : null;
    return describeDecoder({
      family: "glm4_moe",
      config,
      weights,
      sizes,
      rotary: readRotary(config, { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: 0.5 }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias, outputBias: false, slidingWindow: null, norms }),
      feedForward: readDeepseekFeedForward(config, weights, {
        sizes,
        activation: readGatedActivation(config),
        experts,
        routing: (count) => readSigmoidRouting(config, count, { scalingFactor: 1, numGroups: 1, topGroups: 1 }),
        correctionBias: true,
        mlpBias: false,
        defaults: { dense: 10944, expert: 1408, shared: 1, denseLayers: 1 },
      }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["n_routed_experts"]),
  perExpertTensors: (layer) => [{ name: `model.layers.${layer}.mlp.gate.e_score_correction_bias`, axis: 0 }],
};
