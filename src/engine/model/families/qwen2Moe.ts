import { readGatedActivation } from "../activation";
import { readBoolean, readInt, readNullableInt, unsupported, type Config } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import { writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { llamaNames, readExperts, readMlp } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readLayerTypes } from "../layerTypes";
import { readMoe, softmaxThenTopK } from "../moe";
import { readQwenFeedForward } from "../qwenSparsity";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["num_experts"],
  numExpertsPerToken: "num_experts_per_tok",
  defaults: { numExperts: 60, numExpertsPerToken: 4 },
};

/** Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B: a shared expert behind a sigmoid gate. */
export const qwen2Moe: ModelFamily = {
  modelType: "qwen2_moe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 151936,
      hidden_size: 2048,
      num_hidden_layers: 24,
      num_attention_heads: 16,
      num_key_value_heads: 16,
      max_position_embeddings: 32768,
      rms_norm_eps: 1e-6,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    const inputBias = readBoolean(config, "qkv_bias", true);
    const windows = readSlidingWindows(config, numLayers);
    const activation = readGatedActivation(config);
    const routing = softmaxThenTopK(readBoolean(config, "norm_topk_prob", false));
    const sharedSize = readInt(config, "shared_expert_intermediate_size", { min: 1, default: 5632 });
    const because = `shared_expert_intermediate_size = ${sharedSize}`;
    return describeDecoder({
      family: "qwen2_moe",
      config,
      weights,
      sizes,
      rotary: readRotary(config, { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (index, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias, outputBias: false, slidingWindow: windows(index) }),
      feedForward: readQwenFeedForward(config, weights, {
        sizes,
        activation,
        experts,
        denseDefault: 5632,
        expertDefault: 1408,
        moe: (prefix, count, intermediateSize) =>
          readMoe(weights, {
            hiddenSize,
            intermediateSize,
            activation,
            count,
            routing,
            router: `${prefix}.gate.weight`,
            experts: (shape) => readExperts(weights, `${prefix}.experts`, llamaNames, shape),
            shared: () => ({
              mlp: readMlp(weights, `${prefix}.shared_expert`, {
                hiddenSize,
                intermediateSize: sharedSize,
                because,
                activation,
              }),
              gate: weights.linear(`${prefix}.shared_expert_gate`, hiddenSize, 1, { bias: false, because }),
            }),
          }),
      }),
    });
  },
  withNumExperts: (config, numExperts) => writeNumExperts(config, numExperts, experts.numExperts),
  perExpertTensors: () => [],
};

/**
 * Window of each layer. Without `layer_types`, transformers slides in every second layer (the even ones) among the first
 * `max_window_layers` when `use_sliding_window` is set.
 */
function readSlidingWindows(config: Config, numLayers: number): (layer: number) => number | null {
  const use = readBoolean(config, "use_sliding_window", false);
  const window = use ? readNullableInt(config, "sliding_window", { min: 1, absent: 4096 }) : null;
  const maxWindowLayers = readInt(config, "max_window_layers", { min: 0, default: 28 });
  const types = readLayerTypes(config, numLayers);
  if (types?.includes("sliding_attention") && window === null) {
    throw unsupported(
      "layer_types",
      "sliding_attention",
      "full_attention unless use_sliding_window and sliding_window are set",
    );
  }
  if (types !== null) return (layer) => (types[layer] === "sliding_attention" ? window : null);
  return (layer) => (layer % 2 === 0 && layer < maxWindowLayers ? window : null);
}
