import type { LayerDescription, ModelDescription } from "../model/description";
import { decodedSizes } from "./weightViews";

export interface LayerKinds {
  /** One layer of each kind; the first has experts, where any has. */
  kinds: LayerDescription[];
  /** Of each layer of the model, the position of its kind. */
  kindOf: number[];
}

/** Kinds that are told apart at most; layers of further ones count as the first. */
const mostKinds = 4;

/**
 * Kinds of layers: those that differ in what they do or in their sizes, of which windows change neither. One with experts
 * comes first, the others as often as they occur.
 */
export function layerKinds({ layers }: Pick<ModelDescription, "layers">): LayerKinds {
  const keys = layers.map((layer) => {
    const numbers = decodedSizes(layer).reduce((sum, size) => sum + size, 0);
    return `${layer.attention.kind} ${layer.feedForward.kind} ${numbers}`;
  });
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  const byCount = [...counts].sort(([, a], [, b]) => b - a).map(([key]) => key);
  const layerOf = (key: string) => layers[keys.indexOf(key)]!;
  const first = byCount.find((key) => layerOf(key).feedForward.kind === "moe") ?? byCount[0]!;
  const timed = [first, ...byCount.filter((key) => key !== first)].slice(0, mostKinds);
  return { kinds: timed.map(layerOf), kindOf: keys.map((key) => Math.max(0, timed.indexOf(key))) };
}
