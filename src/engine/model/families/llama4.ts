import { readBoolean, readInt, readIntList, unsupported, type Config } from "../config";
import { decoderFamily, type FamilyContext } from "../decoderFamily";
import type { DecoderSizes } from "../decoder";
import { llamaNames } from "../expertTensors";
import { groupedQuery } from "../groupedQuery";
import { readTypes } from "../layerTypes";
import { sigmoidRouting } from "../routingRules";
import { flag, number, size, sizeOrNone } from "../settings";
import type { SparseRule } from "../sparseLayers";
import { textTowerOf } from "../textTower";

/** Chunked attention with rotary positions, and full attention without; one expert a token, weighted at its input. */
export const llama4Text = decoderFamily({
  modelType: "llama4_text",
  about: {
    architectures: ["Llama4ForCausalLM"],
    examples: "the language model of Llama-4-Scout-17B-16E, Llama-4-Maverick-17B-128E",
    attention: "grouped-query, chunked",
  },
  sizes: {
    ...{ vocab: 202_048, hidden: 5120, layers: 48, heads: 40, keyValueHeads: 8, headDim: 128 },
    ...{ positions: 131_072, epsilon: 1e-5 },
  },
  attention: groupedQuery({
    rotary: { defaultTheta: 500_000, pairing: "interleaved" },
    rotates: ({ config, sizes }) => rotatedLayers(config, sizes),
    chunks: chunkedLayers,
    bias: flag("attention_bias", false),
    norms: (config, _, isRotated) =>
      isRotated && flag("use_qk_norm", true)(config)
        ? { query: "qk_norm", key: "qk_norm", scope: "head", afterRotary: true, kind: "rms alone" }
        : null,
    positionScale: (config, isRotated) =>
      isRotated || !tunesTemperature(config)
        ? null
        : { coefficient: number("attn_scale", 0.1)(config), period: size("floor_scale", 8192)(config), offset: 1 },
  }),
  feedForward: {
    sparse: byInterval,
    dense: { size: size("intermediate_size_mlp", 16_384), name: "feed_forward" },
    block: ["feed_forward"],
    router: ["router.weight"],
    count: { keys: ["num_local_experts"], absent: 16, perToken: 1 },
    size: size("intermediate_size", 8192),
    experts: { projections: llamaNames, axes: "in-out" },
    routing: sigmoidRouting({ renormalise: false, epsilon: 0, useCorrectionBias: false }),
    weightsInput: true,
    shared: {
      names: ["feed_forward.shared_expert"],
      size: size("intermediate_size", 8192),
      because: "intermediate_size",
    },
  },
});

export const llama4 = textTowerOf(llama4Text, "llama4", {
  ...llama4Text.about,
  architectures: ["Llama4ForConditionalGeneration"],
  examples: "Llama-4-Scout-17B-16E, Llama-4-Maverick-17B-128E",
});

/** `no_rope_layers` holds 1 where a layer has rotary positions; without it, every n-th has none. */
function rotatedLayers(config: Config, { numLayers }: DecoderSizes): (layer: number) => boolean {
  const marks = readIntList(config, "no_rope_layers", { min: 0, max: 1 }) ?? [];
  if (marks.length > 0 && marks.length < numLayers)
    throw unsupported("no_rope_layers", marks.length, `one mark for each of the ${numLayers} layers`);
  const interval = readInt(config, "no_rope_layer_interval", { min: 1, default: 4 });
  return marks.length > 0 ? (layer) => marks[layer] === 1 : (layer) => (layer + 1) % interval !== 0;
}

/** Layers with rotary positions are the chunked ones where `layer_types` is silent. */
function chunkedLayers({ config, sizes }: FamilyContext): (layer: number) => number | null {
  const types = readTypes(config, "layer_types", sizes.numLayers, ["full_attention", "chunked_attention"]);
  const rotated = rotatedLayers(config, sizes);
  const chunk = sizeOrNone("attention_chunk_size", 8192)(config);
  return (layer) => {
    if (!(types === null ? rotated(layer) : types[layer] === "chunked_attention")) return null;
    if (chunk === null) throw unsupported("attention_chunk_size", null, "a size, as layers attend in chunks");
    return chunk;
  };
}

/** Early configs hold a number here. */
function tunesTemperature(config: Config): boolean {
  const found = config["attn_temperature_tuning"];
  return typeof found === "number" ? found !== 0 : readBoolean(config, "attn_temperature_tuning", true);
}

function byInterval(config: Config, _: DecoderSizes): ReturnType<SparseRule> {
  const listed = readIntList(config, "moe_layers", { min: 0 });
  const step = readInt(config, "interleave_moe_layer_step", { min: 1, default: 1 });
  return {
    isSparse: (layer) => (listed === null ? (layer + 1) % step === 0 : listed.includes(layer)),
    because: "moe_layers, interleave_moe_layer_step",
  };
}
