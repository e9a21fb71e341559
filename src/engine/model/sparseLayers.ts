import { readInt, readIntList, refuseUnless, type Config, type Key } from "./config";
import type { DecoderSizes } from "./decoder";
import { readTypes } from "./layerTypes";

/** Which layers have experts, and the words of config.json that say so. */
export interface SparseLayers {
  isSparse: (layer: number) => boolean;
  because: string;
}

export type SparseRule = (config: Config, sizes: DecoderSizes) => SparseLayers;

export const everyLayer: SparseRule = () => ({ isSparse: () => true, because: "" });

/** The first layers are dense: DeepSeek's `first_k_dense_replace` and its relatives. */
export function afterFirst(key: string, absent: number): SparseRule {
  return (config) => {
    const denseLayers = readInt(config, key, { min: 0, default: absent });
    refuseUnless(config, "moe_layer_freq", [1], "Reroute supports experts in every layer behind the dense ones");
    return { isSparse: (layer) => layer >= denseLayers, because: `${key} = ${denseLayers}` };
  };
}

/**
 * `mlp_layer_types` says "sparse" or "dense" for each layer; older configs have `moe_layer_freq`, a list of ones and zeros.
 * Without either, `otherwise`.
 */
export function byLayerType(otherwise: SparseRule): SparseRule {
  return (config, sizes) => {
    const types = readTypes(config, "mlp_layer_types", sizes.numLayers, ["dense", "sparse"]);
    if (types !== null) return { isSparse: (layer) => types[layer] === "sparse", because: "mlp_layer_types" };
    if (!Array.isArray(config["moe_layer_freq"])) return otherwise(config, sizes);
    const ones = readIntList(config, "moe_layer_freq", { min: 0, max: 1 }) ?? [];
    return { isSparse: (layer) => ones[layer] === 1, because: "moe_layer_freq" };
  };
}

/** Qwen: all but `mlp_only_layers`, in steps of `decoder_sparse_step`; none where there are no experts at all. */
export function inSteps(numExperts: Key, absent: number): SparseRule {
  return (config) => {
    const dense = new Set(readIntList(config, "mlp_only_layers", { min: 0 }));
    const step = readInt(config, "decoder_sparse_step", { min: 1, default: 1 });
    const hasExperts = readInt(config, numExperts, { min: 0, default: absent }) > 0;
    return {
      isSparse: (layer) => hasExperts && !dense.has(layer) && (layer + 1) % step === 0,
      because: "mlp_only_layers, decoder_sparse_step",
    };
  };
}
