import { readGatedActivation } from "../activation";
import { readBoolean } from "../config";
import { readDeepseekFeedForward } from "../deepseekSparsity";
import { describeDecoder, readSizes } from "../decoder";
import { writeNumExperts, type ExpertCountKeys } from "../expertCount";
import type { ModelFamily } from "../family";
import { readLatentAttention, readLatentSizes } from "../latentAttention";
import { readRotary } from "../rotaryConfig";
import { readSigmoidRouting } from "../sigmoidRouting";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["n_routed_experts", "num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 256, numExpertsPerToken: 8 },
};

/** DeepSeek-V3 and R1, Moonlight, Kimi-K2. The multi-token-prediction layer behind the last one is left untouched. */
export const deepseekV3: ModelFamily = {
  modelType: "deepseek_v3",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 129280,
      hidden_size: 7168,
      num_hidden_layers: 61,
      num_attention_heads: 128,
      num_key_value_heads: 128,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, maxPositions, normEpsilon } = sizes;
    const latent = readLatentSizes(config);
    return describeDecoder({
      family: "deepseek_v3",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim: latent.ropeHeadDim,
        maxPositions,
        defaultTheta: 10_000,
        pairing: readBoolean(config, "rope_interleave", true) ? "interleaved" : "half",
        partialFactor: null,
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: readLatentAttention(config, weights, sizes, latent),
      feedForward: readDeepseekFeedForward(config, weights, {
        sizes,
        activation: readGatedActivation(config),
        experts,
        routing: (count) => readSigmoidRouting(config, count, { scalingFactor: 2.5, numGroups: 8, topGroups: 4 }),
        correctionBias: true,
        mlpBias: false,
        defaults: { dense: 18432, expert: 2048, shared: 1, denseLayers: 3 },
      }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["n_routed_experts"]),
  perExpertTensors: (layer) => [{ name: `model.layers.${layer}.mlp.gate.e_score_correction_bias`, axis: 0 }],
};
