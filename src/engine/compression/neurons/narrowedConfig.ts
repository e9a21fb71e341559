import type { NeuronsPlan } from "../../../protocol/plan";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { expertWidthsKey, type ExpertWidths } from "../../model/expertWidths";
import type { JsonObject, ModelFamily } from "../../model/family";
import { moeLayers } from "../../model/moeLayers";
import { narrowTensors } from "./narrow";

/** Units of one expert. */
export function widthOf({ experts }: MoeDescription, expert: number): number {
  const { weight, layout } = experts[expert]!.downProj;
  return weight.shape[layout === "out-in" ? 1 : 0]!;
}

/**
 * Widths in which a plan's experts are stored, by layer number: those that are left, or the widest of all where narrower ones
 * are padded.
 */
export function storedWidths(description: ModelDescription, { layers, form }: NeuronsPlan): Map<number, number[]> {
  const left = moeLayers(description).map(({ layer, moe }) => {
    const { removed } = layers[String(layer)]!;
    return [layer, moe.experts.map((_, e) => widthOf(moe, e) - removed[e]!.length)] as const;
  });
  if (form === "cut") return new Map(left);
  const widest = left.reduce((most, [, widths]) => Math.max(most, ...widths), 0);
  return new Map(left.map(([layer, widths]) => [layer, widths.map(() => widest)]));
}

/**
 * config.json with the widths that a plan leaves: the family's own key where all experts of all layers have one,
 * `reroute_expert_widths` where they differ.
 * @throws RerouteError model/unsupported-option where other parts follow the family's key
 */
export function narrowedConfig(
  config: JsonObject,
  family: ModelFamily,
  description: ModelDescription,
  plan: NeuronsPlan,
): JsonObject {
  const widths = storedWidths(description, plan);
  const all = [...widths.values()].flat();
  const before = moeLayers(description).map(({ moe }) => moe.intermediateSize);
  if (all.every((width) => width === all[0])) {
    const { [expertWidthsKey]: _, ...rest } = config;
    const isOne = before.every((width) => width === all[0]);
    return isOne ? config : family.withExpertWidth(rest, all[0]!);
  }
  const list: ExpertWidths = description.layers.map(({ index }) => {
    const own = widths.get(index);
    if (own === undefined) return null;
    return own.every((width) => width === own[0]) ? own[0]! : own;
  });
  return { ...config, [expertWidthsKey]: list };
}

/** The tensors of the narrowed checkpoint, by name, with their new shapes: what sizes and a first look need. */
export function narrowedShapes(
  checkpoint: Checkpoint,
  description: ModelDescription,
  plan: NeuronsPlan,
): Map<string, TensorEntry> {
  const widths = storedWidths(description, plan);
  const entries = new Map(checkpoint.tensors);
  for (const { layer, moe } of moeLayers(description)) {
    for (const { name, shape } of narrowTensors(checkpoint, moe, widths.get(layer)!)) {
      entries.set(name, { ...entries.get(name)!, shape });
    }
  }
  return entries;
}

/**
 * The description that the narrowed checkpoint will have, read as it will be read: refuses what could not be loaded before
 * anything is written.
 * @throws RerouteError what the family raises
 */
export function narrowedDescription(
  checkpoint: Checkpoint,
  family: ModelFamily,
  description: ModelDescription,
  plan: NeuronsPlan,
): ModelDescription {
  const config = narrowedConfig(checkpoint.config, family, description, plan);
  return family.describe({ ...checkpoint, config, tensors: narrowedShapes(checkpoint, description, plan) });
}
