import { malformedConfig, readInt, readIntList, unsupported, type Config, type Key } from "./config";
import type { JsonObject } from "./family";

/** Well above any real model (512 experts), small enough that a crafted config cannot exhaust memory. */
export const maxExperts = 65_536;

/** How many experts a layer has, how many a token uses, and the map of a merged checkpoint that keeps all router rows. */
export interface ExpertCount {
  /** Experts with weights. */
  numExperts: number;
  /** Rows of the router: more than `numExperts` where several share one expert. */
  numLogicalExperts: number;
  numExpertsPerToken: number;
  logicalToPhysical: number[] | null;
  because: string;
}

/**
 * Reroute's own: the number of experts of each layer (null: dense), where pruning left layers with different numbers. The
 * family's own key then holds the largest.
 */
export const expertCountsKey = "reroute_num_experts";

const perTokenKey = "num_experts_per_tok";

export interface ExpertCountKeys {
  /** All spellings of the number of experts, the family's own first. */
  keys: readonly [string, ...string[]];
  /** Experts, and those a token uses, where config.json is silent; null: it must say. */
  absent: number;
  perToken: number | null;
  /** Default: num_experts_per_tok. */
  perTokenKey?: Key;
  /** Spellings that loaders need to be there; default: the family's own. */
  written?: readonly string[];
  /** Both numbers may be lists with one for each layer (Hunyuan). */
  byLayer?: true;
}

/** @throws RerouteError `checkpoint/malformed`, `model/unsupported-option`. */
export function readExpertCount(config: Config, layer: number, numLayers: number, keys: ExpertCountKeys): ExpertCount {
  const numbers = keys.byLayer ? ofLayer(config, layer, numLayers, keys) : config;
  const numExpertsPerToken = readInt(numbers, keys.perTokenKey ?? perTokenKey, {
    min: 1,
    max: maxExperts,
    ...(keys.perToken === null ? {} : { default: keys.perToken }),
  });
  const min = keys.byLayer ? 1 : 0;
  const own = readLayerCount(config, layer, numLayers);
  const configured = own ?? readInt(numbers, keys.keys, { min, max: maxExperts, default: keys.absent });
  const key = own === null ? keys.keys[0] : expertCountsKey;
  const map = readLogicalMap(config, layer, numLayers);
  const numLogicalExperts = map?.length ?? configured;
  if (numExpertsPerToken > numLogicalExperts) {
    throw unsupported("num_experts_per_tok", numExpertsPerToken, `at most ${key} = ${numLogicalExperts}`);
  }
  if (map === null) {
    const because = `${key} = ${configured}`;
    return { numExperts: configured, numLogicalExperts, numExpertsPerToken, logicalToPhysical: null, because };
  }
  const physical = readPhysicalCount(config, layer);
  if (map.some((expert) => expert >= physical)) {
    throw malformedConfig("expert_id_mapping", map, `ids below physical_num_experts = ${physical}`);
  }
  const because = `logical_num_experts = ${numLogicalExperts}, physical_num_experts = ${physical}`;
  return { numExperts: physical, numLogicalExperts, numExpertsPerToken, logicalToPhysical: map, because };
}

function readLayerCount(config: Config, layer: number, numLayers: number): number | null {
  const found = Object.hasOwn(config, expertCountsKey) ? config[expertCountsKey] : null;
  if (found === null || found === undefined) return null;
  if (!Array.isArray(found) || found.length !== numLayers) {
    throw malformedConfig(expertCountsKey, found, `a list with an entry for each of the ${numLayers} layers`);
  }
  return readInt({ [expertCountsKey]: found[layer] as unknown }, expertCountsKey, { min: 1, max: maxExperts });
}

/** The config with one layer's number in place of every list of them. */
function ofLayer(config: Config, layer: number, numLayers: number, keys: ExpertCountKeys): Config {
  const perToken = keys.perTokenKey ?? perTokenKey;
  const names = [...keys.keys, ...(typeof perToken === "string" ? [perToken] : perToken)];
  const lists = names.filter((name) => Array.isArray(config[name]));
  const numbers = lists.map((name) => {
    const list = readIntList(config, name, { min: 1, max: maxExperts }) ?? [];
    if (list.length < numLayers) throw malformedConfig(name, list, `one number for each of the ${numLayers} layers`);
    return [name, list[layer]] as const;
  });
  return { ...config, ...Object.fromEntries(numbers) };
}

/**
 * The physical expert of each logical one, in checkpoints that merging wrote with all router rows kept (the layout of
 * the post-compression adjustment code, arXiv 2609.06076): `expert_id_mapping` is a list with one list (or null, for a
 * dense layer) for each layer.
 */
function readLogicalMap(config: Config, layer: number, numLayers: number): number[] | null {
  const found = Object.hasOwn(config, "expert_id_mapping") ? config["expert_id_mapping"] : null;
  if (found === null || found === undefined) return null;
  if (!Array.isArray(found) || found.length !== numLayers) {
    throw malformedConfig("expert_id_mapping", found, `a list with an entry for each of the ${numLayers} layers`);
  }
  const map = readIntList({ expert_id_mapping: found[layer] as unknown }, "expert_id_mapping", {
    min: 0,
    max: maxExperts,
  });
  const logical = readInt(config, "logical_num_experts", { min: 1, max: maxExperts });
  if (map?.length !== logical) {
    throw malformedConfig("expert_id_mapping", map, `logical_num_experts = ${logical} ids for layer ${layer}`);
  }
  return map;
}

/** One number for all layers, or a list with one for each (Reroute's own, where merging left layers with different numbers). */
function readPhysicalCount(config: Config, layer: number): number {
  const found = Object.hasOwn(config, "physical_num_experts") ? config["physical_num_experts"] : null;
  const own: unknown = Array.isArray(found) ? found[layer] : found;
  return readInt({ physical_num_experts: own }, "physical_num_experts", { min: 1, max: maxExperts });
}

/** Every spelling of the number of experts that any loader of the supported families reads. */
export const expertCountSpellings = [
  "num_experts",
  "num_local_experts",
  "n_routed_experts",
  "moe_num_experts",
] as const;

/** Writes the number of experts under the family's own spellings, and under any other that the config already has. */
export function writeNumExperts(config: JsonObject, numExperts: number, own: readonly string[]): JsonObject {
  const written = { ...config };
  const present = expertCountSpellings.filter((key) => Object.hasOwn(config, key) && config[key] !== null);
  for (const key of [...own, ...present]) {
    const found = config[key];
    written[key] = Array.isArray(found) ? found.map(() => numExperts) : numExperts;
  }
  return written;
}
