import { readGatedActivation } from "../activation";
import {
  malformed,
  readBoolean,
  readInt,
  readIntList,
  readOptionalNumber,
  refuseUnless,
  unsupported,
  type Config,
  type Key,
} from "../config";
import { describeDecoder, readSizes, type DecoderSizes } from "../decoder";
import type { RotaryDescription } from "../description";
import { expertCount, maxExperts, writeNumExperts } from "../expertCount";
import { llamaNames, readExperts, readMlp } from "../expertTensors";
import type { ModelFamily } from "../family";
import { readGroupedQuery } from "../groupedQuery";
import { readMoe, softmaxThenTopK } from "../moe";
import { readRotary, readRotaryParameters } from "../rotaryConfig";
import { Weights } from "../weights";

/** Hunyuan-A13B: a shared expert beside the routed ones, queries and keys normalised after the rotation. */
export const hunyuanV1Moe: ModelFamily = {
  modelType: "hunyuan_v1_moe",
  describe: (checkpoint) => {
    const { config } = checkpoint;
    const weights = new Weights(checkpoint);
    const sizes = readSizes(config, {
      vocab_size: 290943,
      hidden_size: 4096,
      num_hidden_layers: 32,
      num_attention_heads: 32,
      num_key_value_heads: null,
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-5,
    });
    const { hiddenSize, numLayers, normEpsilon } = sizes;
    const intermediateSize = readInt(config, "intermediate_size", { min: 1, default: 11008 });
    refuseOtherVariants(config, intermediateSize);
    const numExperts = readByLayer(config, ["num_experts", "num_local_experts"], numLayers, 1);
    const numExpertsPerToken = readByLayer(config, ["moe_topk", "num_experts_per_tok"], numLayers, 1);
    const bias = readBoolean(config, "attention_bias", false);
    const useNorms = readBoolean(config, "use_qk_norm", true);
    const activation = readGatedActivation(config);
    return describeDecoder({
      family: "hunyuan_v1_moe",
      config,
      weights,
      sizes,
      rotary: readHunyuanRotary(config, sizes),
      norm: (name) => weights.rmsNorm(name, hiddenSize, normEpsilon),
      tieDefault: false,
      attention: (_, prefix) =>
        readGroupedQuery(weights, prefix, {
          sizes,
          inputBias: bias,
          outputBias: bias,
          slidingWindow: null,
          // transformers always normalises; the released code can leave the norms out, and then has no tensors for them.
          norms:
            useNorms || weights.has(`${prefix}.query_layernorm.weight`)
              ? { query: "query_layernorm", key: "key_layernorm", scope: "head", afterRotary: true }
              : null,
        }),
      feedForward: (index, layer) => {
        const prefix = `${layer}.mlp`;
        const because = `intermediate_size = ${intermediateSize}`;
        return readMoe(weights, {
          hiddenSize,
          intermediateSize,
          activation,
          count: expertCount(config, index, numLayers, {
            configured: numExperts(index),
            numExpertsPerToken: numExpertsPerToken(index),
            key: "num_experts",
          }),
          routing: softmaxThenTopK(true),
          router: weights.firstOf(`${prefix}.gate.wg.weight`, `${prefix}.gate.weight`),
          experts: (shape) => readExperts(weights, `${prefix}.experts`, llamaNames, shape),
          shared: () => ({
            mlp: readMlp(weights, `${prefix}.shared_mlp`, { hiddenSize, intermediateSize, because, activation }),
            gate: null,
          }),
        });
      },
    });
  },
  withNumExperts: (config, numExperts) => {
    const written = writeNumExperts(config, numExperts, ["num_experts"]);
    const found = config["num_experts"];
    return Array.isArray(found) ? { ...written, num_experts: found.map(() => numExperts) } : written;
  },
  perExpertTensors: () => [],
};

/** One number for every layer, or a list with one for each. */
function readByLayer(config: Config, key: Key, numLayers: number, fallback: number): (layer: number) => number {
  const range = { min: 1, max: maxExperts };
  const isList = (typeof key === "string" ? [key] : key).some((name) => Array.isArray(config[name]));
  if (!isList) {
    const same = readInt(config, key, { ...range, default: fallback });
    return () => same;
  }
  const list = readIntList(config, key, range) ?? [];
  if (list.length < numLayers) throw malformed(key, list, `one number for each of the ${numLayers} layers`);
  return (layer) => list[layer] ?? fallback;
}

/** Options of the released configuration that transformers does not read and whose other values mean another model. */
function refuseOtherVariants(config: Config, intermediateSize: number): void {
  refuseUnless(config, "use_cla", [false], "Reroute does not support attention shared across layers");
  refuseUnless(config, "use_mla", [false], "Reroute does not support latent attention in this family");
  refuseUnless(config, "use_mixed_mlp_moe", [true], "this family has a shared expert in every layer");
  refuseUnless(config, "moe_layer_num_skipped", [0], "this family has experts in every layer");
  refuseUnless(config, "norm_topk_prob", [true], "this family divides routing weights by their sum");
  refuseUnless(config, "mlp_bias", [false], "this family has no biases in its experts");
  const expected: Record<string, number> = { num_shared_expert: 1, moe_intermediate_size: intermediateSize };
  for (const [key, value] of Object.entries(expected)) {
    const found = config[key] ?? value;
    const other = (Array.isArray(found) ? (found as unknown[]) : [found]).find((item) => item !== value);
    if (other !== undefined) throw unsupported(key, other, `${value} in every layer`);
  }
}

/** `dynamic` with `alpha` stretches the base once: theta * alpha^(d / (d - 2)), whatever the length. */
function readHunyuanRotary(config: Config, sizes: DecoderSizes): RotaryDescription {
  const { headDim, maxPositions } = sizes;
  const { type, parameters } = readRotaryParameters(config);
  const alpha = readOptionalNumber(parameters, "alpha", { min: 0 }) ?? 0;
  const options = { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null } as const;
  if (type !== "dynamic" || alpha === 0) return readRotary(config, options);
  const rotary = readRotary(config, options, "default");
  return { ...rotary, theta: rotary.theta * alpha ** (headDim / (headDim - 2)) };
}
