import { readGatedActivation } from "../activation";
import { readBoolean, readInt, readNullableInt, readNumber, refuseUnless, unsupported, type Config } from "../config";
import { describeDecoder, readSizes, type DecoderSizes } from "../decoder";
import type { RotaryDescription } from "../description";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { mixtralNames, readExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { requireUniformLayerTypes } from "../layerTypes";
import { readMoe } from "../moe";
import { readRotary, readRotaryParameters } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 16, numExpertsPerToken: 2 },
};

/** Phi-3.5-MoE: layer norms with biases, and SparseMixer routing in evaluation mode, which always selects two experts. */
export const phimoe: ModelFamily = {
  modelType: "phimoe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 32064,
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, normEpsilon } = sizes;
    refuseUnless(config, "num_experts_per_tok", [2], "SparseMixer selects two experts");
    const slidingWindow = readNullableInt(config, "sliding_window", { min: 1, absent: null });
    requireUniformLayerTypes(config, numLayers, slidingWindow);
    const bias = readBoolean(config, "attention_bias", false);
    const activation = readGatedActivation(config);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 6400 });
    const jitter = readNumber(config, "router_jitter_noise", { min: 0, default: 0.01 });
    return describeDecoder({
      family: "phimoe",
      config,
      weights,
      sizes,
      rotary: readPhimoeRotary(config, sizes),
      norm: (name) => weights.layerNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      headBias: readBoolean(config, "lm_head_bias", false),
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias: bias, outputBias: bias, slidingWindow }),
      feedForward: (index, layer) => {
        const router = weights.firstOf(
          `${layer}.block_sparse_moe.gate.weight`,
          `${layer}.mlp.router.weight`,
          `${layer}.mlp.gate.weight`,
          `${layer}.block_sparse_moe.router.weight`,
        );
        const prefix = router.startsWith(`${layer}.mlp.`) ? `${layer}.mlp` : `${layer}.block_sparse_moe`;
        return readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing: { kind: "sparse-mixer", jitter },
          router,
          experts: (shape) => readExperts(weights, `${prefix}.experts`, mixtralNames, shape),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["num_local_experts"]),
  perExpertTensors: () => [],
};

/**
 * LongRoPE with magnitudes from the config. transformers 5.18 evaluates PhiMoE's frequencies without the sequence length,
 * so the short factors apply to every length, and only the magnitude changes beyond the original length; we agree with it.
 */
function readPhimoeRotary(config: Config, sizes: DecoderSizes): RotaryDescription {
  const { headDim, maxPositions } = sizes;
  const rotary = readRotary(config, {
    headDim,
    maxPositions,
    defaultTheta: 1_000_000,
    pairing: "half",
    partialFactor: null,
  });
  const { scaling } = rotary;
  if (scaling.type === "default") return rotary;
  if (scaling.type !== "longrope") throw unsupported("rope_type", scaling.type, "default, longrope in this family");
  const { parameters } = readRotaryParameters(config);
  return {
    ...rotary,
    scaling: {
      ...scaling,
      longFactor: scaling.shortFactor,
      attentionFactorShort: readNumber(parameters, "short_mscale"),
      attentionFactorLong: readNumber(parameters, "long_mscale"),
    },
  };
}
