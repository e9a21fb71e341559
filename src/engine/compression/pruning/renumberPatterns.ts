import { RerouteError } from "../../../protocol/errors";
import type { PruningPlan } from "../../../protocol/plan";
import { quote } from "../../checkpoint/quote";
import { readObject, type Config } from "../../model/config";
import type { ModelDescription } from "../../model/description";
import type { JsonObject } from "../../model/family";
import { moeLayers } from "../../model/moeLayers";
import { quantisationKey } from "../../model/quantisation/scheme";
import { readSchemes } from "../../model/quantisation/schemes";
import { allViewsIn } from "../../execution/weightViews";

/** New number of each old expert that stays, by layer number. */
type Numbers = ReadonlyMap<number, ReadonlyMap<number, number>>;

/**
 * The config of a quantised checkpoint whose experts get other numbers: names and patterns of quantization_config that name
 * experts by number (targets, ignore, dynamic, modules_to_not_convert) follow them, else another expert would be read with
 * their widths.
 *
 * @throws RerouteError model/unsupported-option where a pattern names experts in another way than by their numbers, so that
 *   one would be read otherwise than it is stored
 */
export function withRenumberedPatterns(
  config: JsonObject,
  description: ModelDescription,
  { layers }: PruningPlan,
): JsonObject {
  const quantisation = readObject(config, quantisationKey);
  if (quantisation === null) return config;
  const numbers: Numbers = new Map(
    Object.entries(layers).map(([layer, { kept }]) => [Number(layer), new Map(kept.map((old, at) => [old, at]))]),
  );
  const renumbered = { ...config, [quantisationKey]: renumberedConfig(quantisation, numbers) };
  requireSameSchemes(config, renumbered, description, numbers);
  return renumbered;
}

function renumberedConfig(quantisation: Config, numbers: Numbers): Config {
  const all = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.flatMap((text): unknown => (typeof text === "string" ? renumber(text, numbers) : [text]))
      : value;
  const result: Record<string, unknown> = { ...quantisation };
  for (const key of ["ignore", "modules_to_not_convert"]) if (key in result) result[key] = all(result[key]);
  const groups = readObject(quantisation, "config_groups");
  if (groups !== null)
    result["config_groups"] = Object.fromEntries(
      Object.entries(groups).map(([name, group]) => [
        name,
        typeof group === "object" && group !== null && "targets" in group
          ? { ...group, targets: all(group.targets) }
          : group,
      ]),
    );
  const dynamic = readObject(quantisation, "dynamic");
  if (dynamic !== null)
    result["dynamic"] = Object.fromEntries(
      Object.entries(dynamic).flatMap(([pattern, own]) => renumber(pattern, numbers).map((text) => [text, own])),
    );
  return result;
}

const list = String.raw`(\()?(\d+(?:\|\d+)*)(\))?`;
const layersOf = new RegExp(String.raw`(layers\\?\.)${list}(?=\\?\.)`);
const expertsOf = new RegExp(String.raw`(experts\\?\.)${list}(?=\\?\.|\$|$)`);

/** A name or pattern with its experts' new numbers, one a layer where it names layers; none where no expert stays. */
function renumber(text: string, numbers: Numbers): string[] {
  const experts = expertsOf.exec(text);
  if (experts === null) return [text];
  const named = layersOf.exec(text);
  // Without a layer it means all of them, which may keep different experts.
  const wanted = named ? named[3]!.split("|").map(Number) : [...numbers.keys()];
  const olds = experts[3]!.split("|").map(Number);
  const found = wanted.flatMap((layer) => {
    const own = numbers.get(layer);
    const news = own ? olds.flatMap((old) => own.get(old) ?? []) : olds;
    if (news.length === 0) return [];
    const of = (prefix: string, values: readonly number[]) =>
      prefix + (values.length === 1 ? String(values[0]) : `(${values.join("|")})`);
    const inExperts = text.replace(expertsOf, () => of(experts[1]!, news));
    return [named ? inExperts.replace(layersOf, () => of(named[1]!, [layer])) : inExperts];
  });
  return [...new Set(found)];
}

/** Every expert that stays is read as it was. */
function requireSameSchemes(before: Config, after: Config, description: ModelDescription, numbers: Numbers): void {
  const [was, is] = [readSchemes(before), readSchemes(after)];
  for (const { layer, moe } of moeLayers(description)) {
    if (moe.storage.kind !== "per-expert") continue;
    for (const [old, now] of numbers.get(layer) ?? []) {
      for (const { tensor } of allViewsIn(moe.experts[old])) {
        const module = tensor.slice(0, tensor.lastIndexOf("."));
        const moved = module.replace(/(experts\.)\d+/, `$1${now}`);
        if (JSON.stringify(was(module)) === JSON.stringify(is(moved))) continue;
        throw new RerouteError(
          "model/unsupported-option",
          `Expert ${old} of layer ${layer} becomes number ${now}, under which quantization_config of config.json would have ${quote(moved)} read otherwise than it is stored. ` +
            `Name experts there by their numbers with their layer, such as "re:.*\\.layers\\.3\\..*experts\\.(1|5)\\."`,
        );
      }
    }
  }
}
