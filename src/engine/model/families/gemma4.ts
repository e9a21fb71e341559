import { readGatedActivation } from "../activation";
import { malformedConfig, readInt, readNumber, readObject, refuseUnless, type Config } from "../config";
import { decoderFamily, type AttentionReader, type FamilyContext } from "../decoderFamily";
import type { DecoderSizes } from "../decoder";
import type { RotaryDescription } from "../description";
import { llamaNames } from "../expertTensors";
import { groupedQuery, perHead } from "../groupedQuery";
import { readTypes, type LayerType } from "../layerTypes";
import { readRotary } from "../rotaryConfig";
import { softmaxThenTopK } from "../routingRules";
import { textTowerOf } from "../textTower";
import { flag, numberOrNone, requiredSize, size } from "../settings";

/**
 * Sliding layers with one full one in six, whose heads are larger and of which a quarter turns; a dense MLP beside the experts;
 * norms around everything.
 */
export const gemma4Text = decoderFamily({
  modelType: "gemma4_text",
  about: {
    architectures: ["Gemma4ForCausalLM"],
    examples: "the language model of gemma-4-26B-A4B",
    attention: "grouped-query, sliding and full",
  },
  sizes: {
    ...{ vocab: 262_144, hidden: 2304, layers: 30, heads: 8, keyValueHeads: 4, headDim: 256 },
    ...{ positions: 131_072, epsilon: 1e-6 },
  },
  only: {
    enable_moe_block: [[true], "without it no layer has experts"],
    num_kv_shared_layers: [[0], "Reroute supports keys and values of each layer's own"],
    use_bidirectional_attention: [["vision"], "text attends to what is before it only"],
  },
  check: (config) => {
    // Absent, it is 256.
    refuseUnless(
      { size: 256, ...sizeOfInputs(config) },
      "size",
      [0],
      "hidden_size_per_layer_input: embeddings for each layer",
    );
  },
  norms: {
    ...{ beforeAttention: "input_layernorm", afterAttention: "post_attention_layernorm" },
    ...{ beforeFeedForward: "pre_feedforward_layernorm_2", afterFeedForward: "post_feedforward_layernorm" },
  },
  tied: true,
  embeddingMultiplier: (_, { hiddenSize }) => Math.sqrt(hiddenSize),
  softcap: numberOrNone("final_logit_softcapping", { min: Number.MIN_VALUE }),
  scalar: "layer_scalar",
  attention: byLayer,
  feedForward: {
    activation: (config) => readGatedActivation({ hidden_act: config["hidden_activation"] ?? "gelu_pytorch_tanh" }),
    block: [""],
    router: ["router.proj.weight"],
    routerInput: { scale: "router.scale" },
    expertScale: ["router.per_expert_scale"],
    count: { keys: ["num_experts"], absent: 0, perToken: null, perTokenKey: "top_k_experts" },
    size: requiredSize("moe_intermediate_size"),
    experts: { projections: llamaNames },
    routing: softmaxThenTopK(true),
    routedNorm: "post_feedforward_layernorm_2",
    shared: {
      names: ["mlp"],
      size: size("intermediate_size", 9216),
      because: "intermediate_size",
      inputNorm: "pre_feedforward_layernorm",
      outputNorm: "post_feedforward_layernorm_1",
    },
  },
});

export const gemma4 = textTowerOf(gemma4Text, "gemma4", {
  ...gemma4Text.about,
  architectures: ["Gemma4ForConditionalGeneration"],
  examples: "gemma-4-26B-A4B",
});

function sizeOfInputs(config: Config): Config {
  const found = config["hidden_size_per_layer_input"];
  return found === undefined ? {} : { size: found ?? 0 };
}

/** Each layer's attention, of its own type and sizes. */
function byLayer(context: FamilyContext): ReturnType<AttentionReader> {
  const types = layerTypes(context.config, context.sizes);
  const isKeyValue = flag("attention_k_eq_v", false)(context.config);
  return (layer, prefix, name) => {
    const type = types(layer);
    const isFull = type === "full_attention";
    const own = { ...context, sizes: { ...context.sizes, ...headSizes(context, layer, isFull) } };
    const read = groupedQuery({
      rotary: ({ config, sizes }) => rotaryOf(config, sizes, type),
      windows: () => () => (isFull ? null : size("sliding_window", 512)(context.config)),
      bias: flag("attention_bias", false),
      norms: perHead,
      valueNorm: "rms alone",
      keysAreValues: isFull && isKeyValue,
      scale: 1,
    });
    return read(own)(layer, prefix, name);
  };
}

/** Five sliding layers to a full one where `layer_types` is silent; the last one is full whatever that says. */
function layerTypes(config: Config, { numLayers }: DecoderSizes): (layer: number) => LayerType {
  const types = readTypes(config, "layer_types", numLayers, ["full_attention", "sliding_attention"]);
  return (layer) => {
    if (layer === numLayers - 1) return "full_attention";
    return types?.[layer] ?? ((layer + 1) % 6 === 0 ? "full_attention" : "sliding_attention");
  };
}

/** `per_layer_config` of transformers 5, or the released keys for full attention. */
function headSizes({ config, sizes }: FamilyContext, layer: number, isFull: boolean) {
  const byNumber = readObject(config, "per_layer_config");
  const read = (from: Config, headDim: number, keyValueHeads: number) => ({
    headDim: readInt(from, ["head_dim", "global_head_dim"], { min: 1, default: headDim }),
    numKeyValueHeads: readInt(from, ["num_key_value_heads", "num_global_key_value_heads"], {
      min: 1,
      default: keyValueHeads,
    }),
  });
  const found =
    byNumber !== null
      ? read(readObject(byNumber, String(layer)) ?? {}, sizes.headDim, sizes.numKeyValueHeads)
      : isFull
        ? read(releasedSizes(config), 512, sizes.numKeyValueHeads)
        : sizes;
  if (sizes.numHeads % found.numKeyValueHeads !== 0) {
    throw malformedConfig(
      "num_key_value_heads",
      found.numKeyValueHeads,
      `a divisor of num_attention_heads = ${sizes.numHeads}`,
    );
  }
  return { headDim: found.headDim, numKeyValueHeads: found.numKeyValueHeads };
}

/** Fewer key-value heads count only where keys are values. */
function releasedSizes(config: Config): Config {
  const heads = config["num_global_key_value_heads"];
  const isKeyValue = flag("attention_k_eq_v", false)(config);
  return { global_head_dim: config["global_head_dim"], ...(isKeyValue ? { num_global_key_value_heads: heads } : {}) };
}

const defaults: Record<LayerType, Config> = {
  sliding_attention: { rope_type: "default", rope_theta: 10_000 },
  full_attention: { rope_type: "proportional", partial_rotary_factor: 0.25, rope_theta: 1_000_000 },
};

function rotaryOf(config: Config, { headDim, maxPositions }: DecoderSizes, type: LayerType): RotaryDescription {
  const all = readObject(config, "rope_parameters");
  const parameters = (all === null ? null : readObject(all, type)) ?? defaults[type];
  if (parameters["rope_type"] !== "proportional") {
    const options = { headDim, maxPositions, defaultTheta: 10_000, pairing: "half", partialFactor: null } as const;
    return readRotary({ rope_parameters: parameters }, options);
  }
  const share = readNumber(parameters, "partial_rotary_factor", { min: 0, max: 1, default: 1 });
  return {
    dims: headDim,
    pairing: "half",
    theta: readNumber(parameters, "rope_theta", { min: Number.MIN_VALUE }),
    scaling: {
      type: "proportional",
      factor: readNumber(parameters, "factor", { min: Number.MIN_VALUE, default: 1 }),
      rotatedPairs: Math.floor((share * headDim) / 2),
    },
  };
}
