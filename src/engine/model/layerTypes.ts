import { malformedConfig, readInt, readStringList, unsupported, type Config } from "./config";
import type { DecoderSizes } from "./decoder";
import { settle, type Setting } from "./settings";

export type LayerType = "full_attention" | "sliding_attention";

/** The sliding window of each layer; null for one that attends to all positions before. */
export type WindowRule = (config: Config, sizes: DecoderSizes) => (layer: number) => number | null;

/**
 * `layer_types` of config.json, or null where absent.
 * @throws RerouteError `model/unsupported-option` for another kind of attention, `checkpoint/malformed` for another length.
 */
export function readLayerTypes(config: Config, numLayers: number): LayerType[] | null {
  return readTypes(config, "layer_types", numLayers, ["full_attention", "sliding_attention"]);
}

/** A list with one of some words for each layer, or null where absent. Throws as readLayerTypes. */
export function readTypes<T extends string>(
  config: Config,
  key: string,
  numLayers: number,
  types: readonly T[],
): T[] | null {
  const found = readStringList(config, key);
  if (found === null) return null;
  if (found.length !== numLayers) {
    throw malformedConfig(key, found, `one entry for each of num_hidden_layers = ${numLayers} layers`);
  }
  return found.map((type) => {
    const known = types.find((one) => one === type);
    if (known === undefined) throw unsupported(key, type, types.join(", "));
    return known;
  });
}

/** All layers attend alike; refuses a `layer_types` that says otherwise. */
export function sameWindow(setting: Setting<number | null>): WindowRule {
  return (config, { numLayers }) => {
    const window = settle(setting, config, null);
    const expected: LayerType = window === null ? "full_attention" : "sliding_attention";
    const other = readLayerTypes(config, numLayers)?.find((type) => type !== expected);
    if (other !== undefined) {
      throw unsupported("layer_types", other, `${expected} in every layer (sliding window ${window ?? "off"})`);
    }
    return () => window;
  };
}

/**
 * Layers that `layer_types` calls sliding have the window; without that list, those that the family's pattern says.
 * @param pattern whether a layer slides
 * @param needs what config.json must say for a window, for the message
 */
export function windowByType(
  setting: Setting<number | null>,
  pattern: (config: Config, sizes: DecoderSizes) => (layer: number) => boolean,
  needs = "a window, as layer_types asks for sliding attention",
): WindowRule {
  return (config, sizes) => {
    const window = settle(setting, config, null);
    const types = readLayerTypes(config, sizes.numLayers);
    const slides = types === null ? pattern(config, sizes) : (layer: number) => types[layer] === "sliding_attention";
    const layers = Array.from({ length: Math.min(sizes.numLayers, 4096) }, (_, layer) => layer);
    if (window === null && layers.some(slides)) throw unsupported("sliding_window", null, needs);
    return (layer) => (slides(layer) ? window : null);
  };
}

/** Every n-th layer, counted from 1, attends to all positions; the others slide. */
export function slidingButEvery(key: string, absent: number) {
  return (config: Config) => {
    const every = readInt(config, key, { min: 1, default: absent });
    return (layer: number) => (layer + 1) % every !== 0;
  };
}
