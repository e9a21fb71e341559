import { rm } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { TokenBatch } from "../../execution/passOptions";
import { ModelExecutor } from "../../execution/modelExecutor";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { measuredSearch } from "../budgets/measuredSearch";
import { calibrationOf, type MethodContext } from "../methodContext";
import { allocate } from "./allocation";
import { layersAt, widthChoices, widthLosses } from "./mixedWidths";
import { nearestLayer, type NearestLayer } from "./nearestLayer";
import type { MixedOptions } from "./options";
import type { HessianWeights } from "./hessians";

type Options = MixedOptions & {
  sequences: number;
  hessian: HessianWeights;
  gramMix: number;
  group: number;
  symmetric: boolean;
};

/**
 * The width of each layer by an evolutionary search over all layers: a candidate runs with all layers at the nearest codes of their
 * widths, so that nothing is added up from layers alone. It begins with the widest one width that fits, and with what the sensitivity
 * of the outputs says; the losses that this measures are in the plan.
 */
export async function evolvedBits(
  context: MethodContext,
  uniform: QuantisationPlan,
  options: Options,
): Promise<{ layers: QuantisationPlan["layers"]; note: string }> {
  const { checkpoint, description, runtime, stateDirectory, signal } = context;
  const losses = await widthLosses(context, { ...options, allocate: "sensitivity" });
  const choices = widthChoices(description, uniform, options, losses);
  const { widths, items, budget } = choices;
  const cost = (i: number, place: number) => items[i]!.bytes[place]!;
  const sensitive = allocate(items, budget);
  const one = widths.map((_, place) => items.map(() => place));
  const fits = (places: readonly number[]) => places.reduce((sum, place, i) => sum + cost(i, place), 0) <= budget;
  const sequences = calibrationOf(context, options.searchSequences);
  const { sequenceLength } = sequences;
  const layers = moeLayers(description);
  const folder = path.join(stateDirectory, "widths");
  const staged = new Map<string, NearestLayer>();
  const layerAt = async (i: number, place: number): Promise<NearestLayer> => {
    const { layer, moe } = layers[i]!;
    const [key, bits] = [`${layer}-${widths[place]!}`, widths[place]!];
    const found = staged.get(key) ?? (await nearestLayer(context, uniform, layer, moe, bits, path.join(folder, key)));
    staged.set(key, found);
    return found;
  };
  const shared = {
    runtime,
    sequenceLength,
    scratchDirectory: stateDirectory,
    direction: "forward",
    way: "one",
  } as const;
  const original = await ModelExecutor.open({ ...shared, checkpoint, description });
  const run = async (places: readonly number[], batch: TokenBatch) => {
    const own: NearestLayer[] = [];
    for (const [i, place] of places.entries()) own.push(await layerAt(i, place));
    const tensors = new Map([...checkpoint.tensors, ...own.flatMap((layer) => [...layer.staged])]);
    const executor = await ModelExecutor.open({
      ...{ ...shared, checkpoint: { ...checkpoint, tensors } },
      description: withLayers(description, new Map(layers.map(({ layer }, i) => [layer, own[i]!]))),
    });
    try {
      return await executor.forward(batch, { signal });
    } finally {
      await executor.close();
    }
  };
  const { group, symmetric = true } = Object.values(uniform.layers)[0]!;
  try {
    const { counts, note } = await measuredSearch(context, {
      ...{ start: [one.findLast(fits) ?? sensitive, sensitive], first: "the widest one width that fits" },
      ...{ options, sequences, original, run },
      space: { least: items.map(() => 0), most: items.map(() => widths.length - 1), cost, total: budget },
      decides: { group, symmetric, scale: uniform.options?.["scale"] ?? null },
      nameOf: (places) => places.map((place) => widths[place]!),
    });
    await rm(folder, { recursive: true, force: true });
    return { layers: layersAt(description, choices, counts, options, losses), note };
  } finally {
    await original.close();
  }
}

/** @throws RerouteError arguments/invalid where a search of layers' widths was asked for with something else */
export function requireLayers({ allocate: by, granularity }: MixedOptions): void {
  if (by !== "evoesap" || granularity === "layer") return;
  const why =
    granularity === "model"
      ? "there is one width for all, which sensitivity finds"
      : "widths of single experts are too many to search";
  throw new RerouteError(
    "arguments/invalid",
    `allocate is evoesap and granularity ${granularity}, but the search gives each layer one width: ${why}; use granularity=layer, or allocate=sensitivity`,
  );
}

function withLayers(description: ModelDescription, own: ReadonlyMap<number, NearestLayer>): ModelDescription {
  const layers = description.layers.map((layer) => {
    const quantised = own.get(layer.index);
    return quantised ? { ...layer, feedForward: quantised.moe } : layer;
  });
  return { ...description, layers };
}
