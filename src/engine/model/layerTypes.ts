import { malformed, readStringList, unsupported, type Config } from "./config";

export type LayerType = "full_attention" | "sliding_attention";

/**
 * `layer_types` of config.json, or null where absent.
 * @throws RerouteError `model/unsupported-option` for another kind of attention, `checkpoint/malformed` for another length.
 */
export function readLayerTypes(config: Config, numLayers: number): LayerType[] | null {
  const found = readStringList(config, "layer_types");
  if (found === null) return null;
  if (found.length !== numLayers) {
    throw malformed("layer_types", found, `one entry for each of num_hidden_layers = ${numLayers} layers`);
  }
  return found.map((type) => {
    if (type === "full_attention" || type === "sliding_attention") return type;
    throw unsupported("layer_types", type, "full_attention, sliding_attention");
  });
}

/**
 * For families whose layers all attend alike: refuses a `layer_types` that says otherwise.
 * @throws RerouteError `model/unsupported-option`.
 */
export function requireUniformLayerTypes(config: Config, numLayers: number, slidingWindow: number | null): void {
  const expected: LayerType = slidingWindow === null ? "full_attention" : "sliding_attention";
  const other = readLayerTypes(config, numLayers)?.find((type) => type !== expected);
  if (other !== undefined) {
    throw unsupported("layer_types", other, `${expected} in every layer (sliding window ${slidingWindow ?? "off"})`);
  }
}
