import { readGatedActivation } from "../activation";
import { readBoolean, readInt, readNumber } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { readFusedExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readMoe, topKThenSoftmax } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_local_experts", "num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 8, numExpertsPerToken: 2 },
};

/** Granite 3 MoE: fused experts; multipliers on embeddings, attention scores, residual branches and logits. */
export const granitemoe: ModelFamily = {
  modelType: "granitemoe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 32000,
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: null,
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    const bias = readBoolean(config, "attention_bias", false);
    const scale = readNumber(config, "attention_multiplier", { default: 1 });
    const activation = readGatedActivation(config);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 11008 });
    return describeDecoder({
      family: "granitemoe",
      config,
      weights,
      sizes,
      rotary: readRotary(config, { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      embeddingMultiplier: readNumber(config, "embedding_multiplier", { default: 1 }),
      residualMultiplier: readNumber(config, "residual_multiplier", { default: 1 }),
      headScale: 1 / readNumber(config, "logits_scaling", { min: Number.MIN_VALUE, default: 1 }),
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias: bias, outputBias: bias, slidingWindow: null, scale }),
      feedForward: (index, layer) => {
        // Released names first, then those that transformers 5 holds in memory.
        const prefix = `${layer}.block_sparse_moe`;
        const gateUp = weights.firstOf(`${prefix}.input_linear.weight`, `${prefix}.experts.gate_up_proj`);
        const down = weights.firstOf(`${prefix}.output_linear.weight`, `${prefix}.experts.down_proj`);
        return readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing: topKThenSoftmax,
          router: weights.firstOf(`${prefix}.router.layer.weight`, `${prefix}.router.weight`),
          experts: (shape) => readFusedExperts(weights, { gateUp, down }, shape),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, ["num_local_experts"]),
  perExpertTensors: () => [],
};
