import { readGatedActivation } from "../activation";
import { readBoolean, readInt, readOptionalNumber, refuseUnless, unsupported } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { llamaNames, readExperts } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { requireUniformLayerTypes } from "../layerTypes";
import { readMoe, softmaxThenTopK } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_experts", "num_local_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 64, numExpertsPerToken: 8 },
};

/** OLMoE-1B-7B: queries and keys are normalised over the whole projection, then clipped with values. */
export const olmoe: ModelFamily = {
  modelType: "olmoe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 50304,
      hidden_size: 2048,
      num_hidden_layers: 16,
      num_attention_heads: 16,
      num_key_value_heads: null,
      max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, headDim, numHeads, maxPositions, normEpsilon } = sizes;
    // The norms' sizes follow from hidden_size alone, so another head_dim cannot work in this family.
    if (headDim * numHeads !== hiddenSize) {
      throw unsupported("head_dim", headDim, `hidden_size / num_attention_heads = ${hiddenSize / numHeads}`);
    }
    refuseUnless(config, "sliding_window", [], "OLMoE attends to all positions before");
    requireUniformLayerTypes(config, numLayers, null);
    const attentionBias = readBoolean(config, "attention_bias", false);
    const clip = readOptionalNumber(config, "clip_qkv", { min: 0 });
    const activation = readGatedActivation(config);
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 2048 });
    const routing = softmaxThenTopK(readBoolean(config, "norm_topk_prob", false));
    return describeDecoder({
      family: "olmoe",
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
          slidingWindow: null,
          norms: { query: "q_norm", key: "k_norm", scope: "projection", afterRotary: false },
          clip,
        }),
      feedForward: (index, layer) =>
        readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing,
          router: `${layer}.mlp.gate.weight`,
          experts: (shape) => readExperts(weights, `${layer}.mlp.experts`, llamaNames, shape),
        }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, experts.numExperts),
  perExpertTensors: () => [],
};
