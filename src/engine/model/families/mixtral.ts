import { readGatedActivation } from "../activation";
import { readInt, readNullableInt } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { mixtralNames, readExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { requireUniformLayerTypes } from "../layerTypes";
import { moeBlockPrefix, readMoe, softmaxThenTopK } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 8, numExpertsPerToken: 2 },
};

/** Mixtral-8x7B, Mixtral-8x22B. */
export const mixtral: ModelFamily = {
  modelType: "mixtral",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    const slidingWindow = readNullableInt(config, "sliding_window", { min: 1, absent: null });
    requireUniformLayerTypes(config, numLayers, slidingWindow);
    const activation = readGatedActivation(config);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 14336 });
    return describeDecoder({
      family: "mixtral",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim,
        maxPositions,
        defaultTheta: 1_000_000,
        pairing: "half",
        partialFactor: null,
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias: false, outputBias: false, slidingWindow }),
      feedForward: (index, layer) => {
        const prefix = moeBlockPrefix(weights, layer, "gate.weight");
        return readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing: softmaxThenTopK(true),
          router: `${prefix}.gate.weight`,
          experts: (shape) => readExperts(weights, `${prefix}.experts`, mixtralNames, shape),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, experts.numExperts),
  perExpertTensors: () => [],
};
