import { readBoolean, readInt, readNullableInt, refuseUnless, unsupported, type Config } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readInterleavedExperts } from "../interleavedExperts";
import { readLayerTypes } from "../layerTypes";
import { readMoe, topKThenSoftmax } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_local_experts", "num_experts"],
  numExpertsPerToken: ["num_experts_per_tok", "experts_per_token"],
  defaults: { numExperts: 128, numExpertsPerToken: 4 },
};

/** Constants of the activation, which transformers does not read from config.json. */
const limit = 7;
const alpha = 1.702;

/** gpt-oss-20b, gpt-oss-120b: attention sinks, biased routers and experts, a clamped activation. */
export const gptOss: ModelFamily = {
  modelType: "gpt_oss",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 201088,
      hidden_size: 2880,
      num_hidden_layers: 36,
      num_attention_heads: 64,
      num_key_value_heads: 8,
      head_dim: 64,
      max_position_embeddings: 131072,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    refuseUnless(config, "hidden_act", ["silu"], "gpt-oss has one activation of its own");
    refuseUnless(config, "swiglu_limit", [limit], `transformers clamps the activation at ${limit} whatever this says`);
    const bias = readBoolean(config, "attention_bias", true);
    const windows = readSlidingWindows(config, numLayers);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 2880 });
    return describeDecoder({
      family: "gpt_oss",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim,
        maxPositions,
        defaultTheta: 150_000,
        pairing: "half",
        partialFactor: null,
        defaultParameters: {
          rope_type: "yarn",
          factor: 32,
          beta_fast: 32,
          beta_slow: 1,
          truncate: false,
          original_max_position_embeddings: 4096,
        },
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (index, prefix) =>
        readGroupedQuery(weights, prefix, {
          sizes,
          inputBias: bias,
          outputBias: bias,
          slidingWindow: windows(index),
          sinks: true,
        }),
      feedForward: (index, layer) =>
        readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation: { kind: "clamped-swiglu", limit, alpha },
          count: readExpertCount(config, index, numLayers, experts),
          routing: topKThenSoftmax,
          router: `${layer}.mlp.router.weight`,
          routerBias: `${layer}.mlp.router.bias`,
          experts: (shape) => readInterleavedExperts(weights, `${layer}.mlp.experts`, shape),
        }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, experts.numExperts),
  perExpertTensors: (layer) => [{ name: `model.layers.${layer}.mlp.router.bias`, axis: 0 }],
};

/** Window of each layer; without `layer_types`, the even layers slide. */
function readSlidingWindows(config: Config, numLayers: number): (layer: number) => number | null {
  const window = readNullableInt(config, "sliding_window", { min: 1, absent: 128 });
  const types = readLayerTypes(config, numLayers);
  const slides = (layer: number) => (types === null ? layer % 2 === 0 : types[layer] === "sliding_attention");
  if (window === null && (types === null || types.includes("sliding_attention"))) {
    throw unsupported("sliding_window", null, "a window, as layer_types asks for sliding attention");
  }
  return (layer) => (slides(layer) ? window : null);
}
