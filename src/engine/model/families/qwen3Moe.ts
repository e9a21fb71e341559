import { readGatedActivation } from "../activation";
import { readBoolean, readNullableInt } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { llamaNames, readExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { requireUniformLayerTypes } from "../layerTypes";
import { readMoe, softmaxThenTopK } from "../moe";
import { readQwenFeedForward } from "../qwenSparsity";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_experts", "num_local_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 128, numExpertsPerToken: 8 },
};

/** Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder: queries and keys are normalised over each head. */
export const qwen3Moe: ModelFamily = {
  modelType: "qwen3_moe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 151936,
      hidden_size: 2048,
      num_hidden_layers: 24,
      num_attention_heads: 32,
      num_key_value_heads: 4,
      max_position_embeddings: 32768,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    const attentionBias = readBoolean(config, "attention_bias", false);
    const slidingWindow = readBoolean(config, "use_sliding_window", false)
      ? readNullableInt(config, "sliding_window", { min: 1, absent: 4096 })
      : null;
    requireUniformLayerTypes(config, numLayers, slidingWindow);
    const activation = readGatedActivation(config);
    const routing = softmaxThenTopK(readBoolean(config, "norm_topk_prob", false));
    return describeDecoder({
      family: "qwen3_moe",
      config,
      weights,
      sizes,
      rotary: readRotary(config, { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, {
          sizes,
          inputBias: attentionBias,
          outputBias: attentionBias,
          slidingWindow,
          norms: { query: "q_norm", key: "k_norm", scope: "head", afterRotary: false },
        }),
      feedForward: readQwenFeedForward(config, weights, {
        sizes,
        activation,
        experts,
        denseDefault: 6144,
        expertDefault: 768,
        moe: (prefix, count, intermediateSize) =>
          readMoe(weights, {
            hiddenSize,
            intermediateSize,
            activation,
            count,
            routing,
            router: `${prefix}.gate.weight`,
            experts: (shape) => readExperts(weights, `${prefix}.experts`, llamaNames, shape),
          }),
      }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, experts.numExperts),
  perExpertTensors: () => [],
};
