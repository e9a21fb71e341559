import { RerouteError } from "../../protocol/errors";
import { malformedConfig, readIntList, type Config } from "./config";
import type { JsonObject } from "./family";
import { settle, type KeyedSize, type Setting } from "./settings";

/**
 * Widths of the experts where they are not those of the family's own key, in checkpoints whose neurons were pruned layer by
 * layer or expert by expert (Reroute's own): a list with, for each layer, one width, one for each expert, or null where the
 * layer is dense.
 */
export const expertWidthsKey = "reroute_expert_widths";

/** One width for all experts of each layer, or one for each; null: dense. */
export type ExpertWidths = (number | number[] | null)[];

/**
 * The widths of one layer's experts; null where config.json has no such list.
 * @throws RerouteError checkpoint/malformed
 */
export function readExpertWidths(
  config: Config,
  layer: number,
  { numLayers, numExperts }: { numLayers: number; numExperts: number },
): number[] | null {
  const found = Object.hasOwn(config, expertWidthsKey) ? config[expertWidthsKey] : null;
  if (found === null || found === undefined) return null;
  if (!Array.isArray(found) || found.length !== numLayers) {
    throw malformedConfig(expertWidthsKey, found, `a list with an entry for each of the ${numLayers} layers`);
  }
  const own: unknown = found[layer];
  const list = Array.isArray(own) ? own : new Array<unknown>(numExperts).fill(own);
  const widths = readIntList({ [expertWidthsKey]: list }, expertWidthsKey, { min: 1 })!;
  if (widths.length !== numExperts) {
    throw malformedConfig(expertWidthsKey, own, `${numExperts} widths for layer ${layer}, or one`);
  }
  return widths;
}

/** What of a family's table says how wide its experts are. */
interface WidthTable {
  size: Setting<number>;
  shared?: { size: Setting<number>; counted?: { countKey: string; widthKey: string } };
}

/**
 * config.json of the same model with experts of another width, in every spelling that it has. Where the width of the shared
 * experts is a number of them times the same key, that number changes so that they stay as wide as they are.
 *
 * @throws RerouteError model/unsupported-option where the shared experts' width is no multiple of the new one, or where this
 *   family's key is not known
 */
export function writeExpertWidth(config: JsonObject, width: number, { size, shared }: WidthTable): JsonObject {
  if (typeof size !== "function" || !("key" in size)) {
    throw new RerouteError(
      "model/unsupported-option",
      "The width of this family's experts follows from no single key of config.json, so it cannot change",
    );
  }
  const { key } = size as KeyedSize;
  const spellings = typeof key === "string" ? [key] : [...key];
  const present = spellings.filter((name) => Object.hasOwn(config, name) && config[name] !== null);
  const changed: JsonObject = { ...config };
  for (const name of present.length > 0 ? present : spellings.slice(0, 1)) {
    const found = changed[name];
    changed[name] = Array.isArray(found) ? found.map(() => width) : width;
  }
  const counted = shared?.counted;
  if (counted === undefined || !spellings.includes(counted.widthKey)) return changed;
  const sharedWidth = settle(shared!.size, config, 0);
  if (sharedWidth % width !== 0) {
    throw new RerouteError(
      "model/unsupported-option",
      `Experts of width ${width} need ${counted.widthKey} = ${width} in config.json, but the shared experts' width, ${sharedWidth}, ` +
        `is ${counted.countKey} times the same key; choose a width that divides it: ${divisorsBelow(sharedWidth, settle(size, config, 0)).join(", ")}`,
    );
  }
  return sharedWidth === 0 ? changed : { ...changed, [counted.countKey]: sharedWidth / width };
}

/** The largest divisors of a width that are smaller than another, at most eight. */
function divisorsBelow(width: number, limit: number): number[] {
  const divisors: number[] = [];
  for (let d = limit - 1; d > 0 && divisors.length < 8; d--) if (width % d === 0) divisors.push(d);
  return divisors;
}
