import { readGatedActivation } from "../activation";
import { readBoolean, readInt, readNullableInt, readNumber, refuseUnless } from "../config";
import { describeDecoder, readSizes } from "../decoder";
import type { RoutingDescription } from "../description";
import { readExpertCount, writeNumExperts, type ExpertCountKeys } from "../expertCount";
import { llamaNames, readExperts, readMlp } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readMoe, softmaxThenTopK } from "../moe";
import { readRotary } from "../rotaryConfig";
import { Weights } from "../weights";

const experts: ExpertCountKeys = {
  numExperts: ["moe_num_experts", "num_experts"],
  numExpertsPerToken: ["moe_k", "num_experts_per_tok"],
  defaults: { numExperts: 64, numExpertsPerToken: 6 },
};

/** Where released and in-memory checkpoints keep the correction bias [1, experts]. */
const correctionBiases = ["moe_statics.e_score_correction_bias", "gate.moe_statics.e_score_correction_bias"] as const;

/** ERNIE 4.5 21B-A3B, 300B-A47B: softmax scores, a correction bias for selection, interleaved rotary pairs. */
export const ernie45Moe: ModelFamily = {
  modelType: "ernie4_5_moe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 103424,
      hidden_size: 2560,
      num_hidden_layers: 28,
      num_attention_heads: 20,
      num_key_value_heads: 4,
      max_position_embeddings: 131072,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, headDim, maxPositions, normEpsilon } = sizes;
    refuseUnless(config, "moe_gate", ["topk", "top2_fused", "topk_fused"], "Reroute supports top-k routing");
    const bias = readBoolean(config, "use_bias", false);
    const activation = readGatedActivation(config);
    const first = readInt(config, "moe_layer_start_index", { min: 0, default: 1 });
    const end = readInt(config, "moe_layer_end_index", { min: -1, default: -1 });
    const last = end === -1 ? numLayers - 1 : end;
    const interval = readInt(config, "moe_layer_interval", { min: 1, default: 1 });
    const denseSize = readInt(config, "intermediate_size", { min: 1, default: 12288 });
    const expertSize = readInt(config, "moe_intermediate_size", { min: 1, default: 1536 });
    const sharedExperts = readNullableInt(config, "moe_num_shared_experts", { min: 0, absent: 2 }) ?? 0;
    const routing: RoutingDescription = {
      ...softmaxThenTopK(true),
      epsilon: readNumber(config, "moe_norm_min", { min: 0, default: 1e-12 }),
      epsilonMode: "clamp",
      useCorrectionBias: true,
    };
    const mlp = (prefix: string, intermediateSize: number, because: string) =>
      readMlp(weights, prefix, { hiddenSize, intermediateSize, because, activation, bias });
    return describeDecoder({
      family: "ernie4_5_moe",
      config,
      weights,
      sizes,
      rotary: readRotary(config, {
        headDim,
        maxPositions,
        defaultTheta: 500_000,
        pairing: "interleaved",
        partialFactor: null,
      }),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: true,
      headBias: bias,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, { sizes, inputBias: bias, outputBias: bias, slidingWindow: null }),
      feedForward: (index, layer) => {
        const prefix = `${layer}.mlp`;
        if ((index + 1) % interval !== 0 || index < first || index > last) {
          return mlp(prefix, denseSize, `layer ${index} is dense, intermediate_size = ${denseSize}`);
        }
        const sharedSize = sharedExperts * expertSize;
        const because = `moe_num_shared_experts = ${sharedExperts}, moe_intermediate_size = ${expertSize}`;
        const shared = () => ({ mlp: mlp(`${prefix}.shared_experts`, sharedSize, because), gate: null });
        const [released, inMemory] = correctionBiases;
        return readMoe(weights, {
          hiddenSize,
          intermediateSize: expertSize,
          activation,
          count: readExpertCount(config, index, numLayers, experts),
          routing,
          router: `${prefix}.gate.weight`,
          correctionBias: {
            tensor: weights.firstOf(`${prefix}.${released}`, `${prefix}.${inMemory}`),
            leadingOne: true,
          },
          experts: (shape) => readExperts(weights, `${prefix}.experts`, llamaNames, shape),
          ...(sharedExperts > 0 ? { shared } : {}),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => {
    const written = writeNumExperts(config, numExperts, ["moe_num_experts"]);
    // The remote code of released checkpoints caps each expert's tokens by a list of three numbers.
    const capacity = config["moe_capacity"];
    return Array.isArray(capacity) ? { ...written, moe_capacity: capacity.map(() => numExperts) } : written;
  },
  perExpertTensors: (layer) => correctionBiases.map((name) => ({ name: `model.layers.${layer}.mlp.${name}`, axis: 1 })),
};
