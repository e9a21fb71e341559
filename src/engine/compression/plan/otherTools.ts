import { RerouteError } from "../../../protocol/errors";
import type { PruningPlan } from "../../../protocol/plan";
import { nearestMultiple, type KeepOptions } from "./keptCount";

type Layers = [layer: string, list: unknown[]][];

/**
 * Kept experts as other tools write them, as a pruning plan; null where the text is something else. One list a layer, as one
 * JSON object by layer, as JSON Lines of such objects, or as an array that starts at layer 0:
 *   mask      an entry for each expert, 1 or true where it stays (EASY-EP)
 *   ranking   all expert ids, the best first; the first `keep` stay, a share up to 1 or a count
 *   kept ids  some expert ids, which stay
 * A layer's key is its number, alone or as the only number of a name (`model.layers.3.mlp`).
 *
 * @throws RerouteError plan/invalid for lists that are none of these, differ in kind, or name a layer twice
 */
export function planOfOtherTool(text: string, source: string, keep: KeepOptions): PruningPlan | null {
  const layers = layersOf(text, source);
  if (layers === null) return null;
  const kind = kindOf(layers, source);
  return {
    schemaVersion: 1,
    paradigm: "pruning",
    method: "imported",
    notes: [
      {
        mask: "read from a mask of each layer: 1 stays",
        ranking: `read from a ranked list of each layer, the best first; keep ${keep.keep}`,
        "kept ids": "read from a list of the experts that stay in each layer",
      }[kind],
    ],
    layers: Object.fromEntries(layers.map(([layer, list]) => [layer, keptOf(list, kind, keep, layer, source)])),
  };
}

type Kind = "mask" | "ranking" | "kept ids";

/** What all layers together are: a list of kept ids alone may look like a ranking of fewer experts. */
function kindOf(layers: Layers, source: string): Kind {
  const isMask = (list: unknown[]) =>
    list.every((entry) => entry === 0 || entry === 1 || entry === true || entry === false);
  const repeats = (list: unknown[]) => new Set(list).size < list.length;
  if (layers.every(([, list]) => isMask(list)) && layers.some(([, list]) => repeats(list))) return "mask";
  const isIds = (list: unknown[]) => list.every((entry) => Number.isInteger(entry) && (entry as number) >= 0);
  const wrong = layers.find(([, list]) => !isIds(list) || list.length === 0 || repeats(list));
  if (wrong) {
    throw invalid(
      source,
      `has no list of experts for layer ${wrong[0]} like the other layers': give 0 or 1 for each expert in every layer, or ` +
        `expert ids in every layer, each once, the best first`,
    );
  }
  const isRanking = ([, list]: Layers[number]) =>
    list.length === layers[0]![1].length && Math.max(...(list as number[])) === list.length - 1;
  return layers.every(isRanking) ? "ranking" : "kept ids";
}

function keptOf(
  list: unknown[],
  kind: Kind,
  { keep, multipleOf }: KeepOptions,
  layer: string,
  source: string,
): PruningPlan["layers"][string] {
  const ids = list as number[];
  if (kind === "kept ids") return { kept: [...ids].sort((a, b) => a - b) };
  const scores = new Array<number>(list.length).fill(0);
  if (kind === "mask") list.forEach((entry, e) => (scores[e] = Number(entry)));
  else ids.forEach((e, rank) => (scores[e] = list.length - rank));
  const asked = keep > 1 ? keep : Math.round(keep * list.length);
  const count = multipleOf === undefined ? asked : nearestMultiple(asked, multipleOf);
  const stays = (score: number) => (kind === "mask" ? score === 1 : score > list.length - count);
  const kept = scores.flatMap((score, e) => (stays(score) ? [e] : []));
  if (kept.length === 0) throw invalid(source, `keeps no expert of layer ${layer}; keep at least as many as top-k`);
  return { kept, scores };
}

/** Null where the text holds anything but lists by layer. */
function layersOf(text: string, source: string): Layers | null {
  const values = parsed(text);
  if (values === null || values.length === 0) return null;
  const layers = values.flatMap((value): [string, unknown][] => {
    if (Array.isArray(value) && values.length === 1) return value.map((list, layer) => [String(layer), list]);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [["", null]];
  });
  const byLayer = new Map<string, unknown[]>();
  for (const [name, list] of layers) {
    const numbers = name.match(/\d+/g) ?? [];
    if (!Array.isArray(list) || numbers.length !== 1) return null;
    const layer = String(Number(numbers[0]));
    if (byLayer.has(layer)) throw invalid(source, `names layer ${layer} twice`);
    byLayer.set(layer, list as unknown[]);
  }
  return byLayer.size > 0 ? [...byLayer] : null;
}

/** The text as one JSON value, or as one a line. */
function parsed(text: string): unknown[] | null {
  try {
    return [JSON.parse(text) as unknown];
  } catch {
    try {
      const lines = text.split("\n").filter((line) => line.trim() !== "");
      return lines.map((line): unknown => JSON.parse(line));
    } catch {
      return null;
    }
  }
}

function invalid(source: string, what: string): RerouteError {
  return new RerouteError("plan/invalid", `The plan ${source} ${what}`);
}
