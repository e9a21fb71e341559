import type { Config } from "./config";

/** Where configs of models with several parts keep those of the language model. */
const nestedPlaces = ["text_config", "language_config", "llm_config", "ffn_config", "thinker_config"] as const;

/** How families spell the number of decoder layers. */
export const layerCountSpellings = ["num_hidden_layers", "n_layers", "n_layer", "num_layers"] as const;

/**
 * A positive integer of any family's config.json, for inspection: the first of some spellings, at the top or in the
 * language model's part; null where none is there.
 */
export function configSize(config: Config, spellings: readonly string[]): number | null {
  for (const key of spellings) {
    const value = Object.hasOwn(config, key) ? config[key] : undefined;
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
  }
  for (const place of nestedPlaces) {
    const nested = Object.hasOwn(config, place) ? config[place] : undefined;
    if (typeof nested !== "object" || nested === null || Array.isArray(nested)) continue;
    const found = configSize(nested as Config, spellings);
    if (found !== null) return found;
  }
  return null;
}
