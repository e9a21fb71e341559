import { RerouteError } from "../../../protocol/errors";
import type { MergingPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";
import { overDomains, tokensSeen, type LayerStatistics } from "../../routing/layerStatistics";
import { neverUsed } from "../../routing/loadBalance";
import { routerLogitCosine } from "../../routing/similarity";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { groupsOf, keepAsSaid, keptCount } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { predictionNotes } from "../plan/predictionLayers";
import { dominantGroups, globalGroupCounts, hierarchicalGroups, withinRoutingGroups } from "./groups";
import type { MergeGroup } from "./mergeGroup";
import { hcSmoeOptions, mSmoeOptions } from "./options";
import type { z } from "zod";

/** M-SMoE: groups from router logits and frequencies of the profile. A pure function of the context's statistics. */
export function planMSmoe(context: MethodContext, options: z.infer<typeof mSmoeOptions>): MergingPlan {
  const layers = moeLayers(context.description);
  const counts = groupCounts(context);
  const statistics = layers.map(({ layer, moe }) => statisticsOf(context, layer, moe));
  const frequencies = statistics.map((s) => overDomains(s, "frequency"));
  const notes = statistics.flatMap(neverRoutedNote);
  let perLayer = counts;
  if (options.groups === "global") {
    if (options.router === "fold") {
      throw new RerouteError(
        "plan/invalid",
        "The option groups=global gives layers different numbers of experts, which config.json cannot say with router=fold; " +
          "use --set router=map (loads in Reroute only) or router=duplicate",
      );
    }
    if (layers.some(({ moe }) => groupsOf(moe) > 1)) {
      throw new RerouteError("plan/invalid", "The option groups=global does not work with group-limited routing");
    }
    perLayer = globalGroupCounts(
      frequencies,
      counts.reduce((sum, count) => sum + count, 0),
      context.options.multipleOf,
    );
    const loads = options.router === "map" ? "; Reroute loads the result, stock servers do not" : "";
    notes.push(`global budget: ${perLayer.join(", ")} experts a layer${loads}`);
  }
  return mergingPlan(
    context,
    options,
    notes,
    layers.map(({ layer, moe }, i) => {
      const similarity = routerLogitCosine(statistics[i]!);
      const groups = withinRoutingGroups(moe.numExperts, perLayer[i]!, groupsOf(moe), (experts, count) =>
        dominantGroups(experts, count, similarity, moe.numExperts, frequencies[i]!),
      );
      return [layer, groups];
    }),
  );
}

/** HC-SMoE: one pass that sends every token through every expert, then average linkage of the mean outputs. */
export async function planHcSmoe(context: MethodContext, options: z.infer<typeof hcSmoeOptions>): Promise<MergingPlan> {
  const counts = new Map(moeLayers(context.description).map(({ layer }, i) => [layer, groupCounts(context)[i]!]));
  const { hiddenSize } = context.description;
  const grouped: [number, MergeGroup[]][] = [];
  const notes: string[] = [];
  await collect(context, options.sequences, async (collected) => {
    const { layer, moe, numTokens } = collected;
    const engine = new LayerEngine(context.runtime, context.checkpoint, hiddenSize);
    try {
      const { sums } = await engine.allExperts(collected, (_from, rows) => ({
        columns: new Float32Array(rows * moe.numExperts).fill(1 / numTokens),
        norms: new Float32Array(rows * moe.numExperts),
      }));
      const frequency = new Float64Array(moe.numExperts);
      for (const id of collected.selectedIds) frequency[id]!++;
      notes.push(...neverRouted(layer.index, frequency, numTokens));
      const groups = withinRoutingGroups(moe.numExperts, counts.get(layer.index)!, groupsOf(moe), (experts, count) =>
        hierarchicalGroups(experts, count, sums, hiddenSize, frequency).map(({ centre, ...group }) =>
          // Other rules start from the dominant, and ZipIt's ties go to its units.
          options.merge === "fix-dominant" ? { ...group, centre } : group,
        ),
      );
      grouped.push([layer.index, groups]);
    } finally {
      await engine.close();
    }
  });
  return mergingPlan(context, options, notes, grouped);
}

/** Number of groups of each MoE layer, refused where impossible. */
export function groupCounts({ description, options }: MethodContext): number[] {
  return moeLayers(description).map(({ layer, moe }) => keptCount(options, layer, moe));
}

export function mergingPlan(
  { fingerprint, options, seed, description }: MethodContext,
  chosen: Record<string, string | number | boolean> & {
    router: MergingPlan["router"];
    alignment?: MergingPlan["alignment"];
  },
  notes: string[],
  layers: [number, MergeGroup[]][],
): MergingPlan {
  const { router, alignment = "none", ...rest } = chosen;
  // Other routers keep all rows, and such a layer all its experts.
  const prediction =
    router === "fold" ? predictionNotes(description, "unmerged the experts with the dominant ids of") : [];
  return {
    schemaVersion: 1,
    paradigm: "merging",
    method: options.method,
    teacherFingerprint: fingerprint,
    seed,
    options: { ...keepAsSaid(options), ...rest },
    notes: [...notes, ...prediction],
    alignment,
    router,
    layers: Object.fromEntries(layers.map(([layer, groups]) => [String(layer), { groups }])),
  };
}

/** "layer 3: 2 of 32 experts never routed ..." */
export function neverRouted(layer: number, frequency: Float64Array, tokens: number): string[] {
  const unused = neverUsed(frequency);
  if (unused.length === 0) return [];
  return [
    `layer ${layer}: ${unused.length} of ${frequency.length} experts never routed by ${tokens} calibration tokens ` +
      `(${unused.join(", ")}); they weigh nothing in their group`,
  ];
}

function neverRoutedNote(layer: LayerStatistics): string[] {
  return neverRouted(layer.layer, overDomains(layer, "frequency"), tokensSeen(layer));
}

/** @throws RerouteError plan/invalid where the profile is of another model; arguments/invalid without one */
export function statisticsOf(
  { statistics, options }: MethodContext,
  layer: number,
  moe: MoeDescription,
): LayerStatistics {
  if (statistics === null) {
    throw new RerouteError(
      "arguments/invalid",
      `The method ${options.method} needs calibration text to see how experts are used; give --data FILE`,
    );
  }
  const found = statistics.layers.find((l) => l.layer === layer);
  if (found?.numRouterRows !== moe.numExperts) {
    throw new RerouteError(
      "plan/invalid",
      `The routing statistics hold ${found ? `${found.numRouterRows} experts` : "nothing"} for layer ${layer}, the checkpoint ` +
        `has ${moe.numExperts} experts there; profile this checkpoint again`,
    );
  }
  return found;
}
