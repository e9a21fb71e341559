import { malformedConfig, readInt, readIntList, unsupported, type Config } from "../config";
import type { DecoderSizes } from "../decoder";
import { decoderFamily, type RotaryTable } from "../decoderFamily";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { windowByType } from "../layerTypes";
import { groupedSigmoidRouting } from "../routingRules";
import { flag, numberOrNone, size, sizeOrNone } from "../settings";
import { afterFirst, byLayerType } from "../sparseLayers";

const rotary: RotaryTable = { defaultTheta: 5_000_000, layerType: "full_attention", partialFactor: () => 0.334 };

/** Values are narrower than queries and keys; sliding layers have twice the key-value heads, sinks and a base of their own. */
export const mimoV2Flash = decoderFamily({
  modelType: "mimo_v2_flash",
  about: {
    architectures: ["MiMoV2FlashForCausalLM"],
    examples: "MiMo-V2-Flash",
    attention: "grouped-query, narrower values",
  },
  sizes: {
    ...{ vocab: 152576, hidden: 4096, layers: 48, heads: 64, keyValueHeads: 4, headDim: 192 },
    ...{ positions: 131072, epsilon: 1e-5, epsilonKey: ["rms_norm_eps", "layernorm_epsilon"] },
  },
  only: {
    n_shared_experts: [[0], "this family has no shared experts"],
    add_swa_attention_sink_bias: [[true], "sliding layers of this family have sinks"],
    add_full_attention_sink_bias: [[false], "other layers of this family have no sinks"],
  },
  check: refuseOtherSlidingHeads,
  attention: groupedQuery({
    rotary,
    slidingRotary: { ...rotary, defaultTheta: 10_000, layerType: "sliding_attention", thetaKey: "swa_rope_theta" },
    bias: flag("attention_bias", false),
    outputBias: false,
    windows: windowByType(sizeOrNone("sliding_window", 128), slidingLayers),
    numKeyValueHeads: ({ sizes }, window) => (window === null ? 1 : 2) * sizes.numKeyValueHeads,
    valueHeadDim: size("v_head_dim", 128),
    valueScale: (config) =>
      config["attention_value_scale"] === undefined ? 0.707 : (numberOrNone("attention_value_scale")(config) ?? 1),
    sinks: { names: ["attention_sink_bias", "sinks"], in: (window) => window !== null },
  }),
  feedForward: {
    sparse: byLayerType(afterFirst("first_k_dense_replace", 1)),
    dense: { size: size("intermediate_size", 16384) },
    correctionBias: ["gate.e_score_correction_bias"],
    count: { keys: ["n_routed_experts", "num_local_experts", "num_experts"], absent: 256, perToken: 8 },
    size: size("moe_intermediate_size", 2048),
    experts: { projections: llamaNames },
    routing: groupedSigmoidRouting({ scalingFactor: 1 }),
  },
});

/** `hybrid_layer_pattern` of released configs has 1 for a sliding layer; without it, all but the first and every sixth. */
function slidingLayers(config: Config): (layer: number) => boolean {
  const pattern = readIntList(config, "hybrid_layer_pattern", { min: 0, max: 1 });
  if (pattern !== null) return (layer) => pattern[layer] === 1;
  return (layer) => layer > 0 && (layer + 1) % 6 !== 0;
}

/** Head sizes of sliding layers, which released configs repeat. */
function refuseOtherSlidingHeads(config: Config, { headDim, numHeads, numKeyValueHeads }: DecoderSizes): void {
  if (numHeads % (2 * numKeyValueHeads) !== 0) {
    throw malformedConfig(
      "num_key_value_heads",
      numKeyValueHeads,
      `half of a divisor of num_attention_heads = ${numHeads}`,
    );
  }
  const expected: Record<string, number> = {
    ...{ swa_head_dim: headDim, swa_v_head_dim: size("v_head_dim", 128)(config) },
    ...{ swa_num_attention_heads: numHeads, swa_num_key_value_heads: 2 * numKeyValueHeads },
  };
  for (const [key, value] of Object.entries(expected)) {
    const found = readInt(config, key, { min: 1, default: value });
    if (found !== value) throw unsupported(key, found, String(value));
  }
}
