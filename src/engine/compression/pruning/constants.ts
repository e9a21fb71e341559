import { z } from "zod";
import type { PruningPlan } from "../../../protocol/plan";
import { RerouteError } from "../../../protocol/errors";
import { tensorFromBytes } from "../../checkpoint/tensorSource";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { overDomains, type LayerStatistics } from "../../routing/layerStatistics";
import { neverUsed } from "../../routing/loadBalance";
import { meanOutputs } from "../../routing/similarity";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import type { CompressedLayer } from "../layer/compressedTensors";
import { expertViews } from "../layer/expertMatrices";
import { LayerStages, type LayerStage } from "../layer/stage";
import { inPlace } from "../layer/stagedExperts";
import type { MethodContext } from "../methodContext";
import { statisticsOf } from "../merging/mergingPlan";
import { groupsOf, keepAsSaid, keptCount, selectKept } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";

export const moneOptions = z.strictObject({});

/** Whether pruned experts become constants instead of leaving. */
export function replacesByConstants({ layers }: PruningPlan): boolean {
  return Object.values(layers).some(({ replaceByConstant }) => replaceByConstant === true);
}

/** Ids of the constant experts of each layer, null for a dense one: what config.json says. */
export function constantExperts(description: ModelDescription, plan: PruningPlan): (number[] | null)[] {
  return description.layers.map(({ index, feedForward }) =>
    feedForward.kind === "moe" ? leaving(plan, index, feedForward) : null,
  );
}

/**
 * MoNE (arXiv 2507.00390), fusion metric: sqrt(sum_h Var_t f_e,h) over routed tokens times sum g_e. The weights omega of
 * both parts and the number of sequences are the same for all experts and left out. The lowest become "novices": the
 * constant mean output, so a token routed there adds g_e c_e; the router keeps all rows. A pure function of the statistics.
 */
export function planMone(context: MethodContext): PruningPlan {
  const notes = [
    "pruned experts become constant vectors and the router keeps all rows: only Reroute loads the checkpoint",
  ];
  const layers = moeLayers(context.description).map(({ layer, moe }) => {
    const statistics = statisticsOf(context, layer, moe);
    const frequency = overDomains(statistics, "frequency");
    const unused = neverUsed(frequency);
    if (unused.length > 0) {
      notes.push(
        `layer ${layer}: ${unused.length} of ${moe.numExperts} experts never routed (${unused.join(", ")}); they leave first, as zeros`,
      );
    }
    const fluctuation = outputFluctuation(statistics);
    const weight = overDomains(statistics, "routingWeightSum");
    const scores = Array.from(fluctuation, (f, e) => (frequency[e]! > 0 ? f * weight[e]! : null));
    const count = keptCount(context.options, layer, moe);
    const kept = selectKept({ scores, keepEnd: "highest", count, groups: groupsOf(moe), protectedExperts: new Set() });
    return [String(layer), { kept, scores, replaceByConstant: true }] as const;
  });
  return {
    schemaVersion: 1,
    paradigm: "pruning",
    method: "mone",
    teacherFingerprint: context.fingerprint,
    seed: context.seed,
    options: keepAsSaid(context.options),
    notes,
    layers: Object.fromEntries(layers),
  };
}

/**
 * The constants of every layer, staged.
 * @throws RerouteError arguments/invalid without a profile
 */
export async function applyConstants(
  context: MethodContext,
  plan: PruningPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  if (context.statistics === null) {
    throw new RerouteError(
      "arguments/invalid",
      "The plan replaces experts by their mean output, which only calibration text shows; give --data FILE",
    );
  }
  const stages = new LayerStages(context.stateDirectory);
  const done = new Map<number, CompressedLayer & LayerStage>();
  for (const { layer, moe } of moeLayers(context.description)) {
    const means = meanOutputs(statisticsOf(context, layer, moe));
    const { hiddenSize } = context.description;
    const constants = leaving(plan, layer, moe);
    const prefix = moe.storage.kind === "per-expert" ? moe.storage.prefix : "";
    const { dtype } = expertViews(moe.experts[0]!)[0]!;
    const values = constants.map((e) =>
      Float32Array.from(means.subarray(e * hiddenSize, (e + 1) * hiddenSize), (value) =>
        Number.isNaN(value) ? 0 : value,
      ),
    );
    const inputs = {
      version: 1,
      fingerprint: context.fingerprint,
      layer,
      constants,
      values: values.map((v) => [...v]),
    };
    const tensors = constants.map((e, i) =>
      tensorFromBytes({ name: `${prefix}${e}.constant`, dtype, shape: [hiddenSize] }, () =>
        encodeFloats(values[i]!, dtype as WritableFloat),
      ),
    );
    const stage =
      (await stages.find(layer, inputs)) ??
      (await stages.write(layer, inputs, tensors, async () => ({ metrics: {}, notes: [] }), context.signal));
    const isReplaced = (name: string) => constants.some((e) => name.startsWith(`${prefix}${e}.`));
    done.set(layer, {
      ...stage,
      staged: stage.tensors,
      replaced: new Set([...context.checkpoint.tensors.keys()].filter(isReplaced)),
      outcome: inPlace(moe),
    });
  }
  return done;
}

/** sqrt(sum_h Var_t f_e,h) over routed tokens: sqrt(E ||f||^2 - ||E f||^2). */
function outputFluctuation(statistics: LayerStatistics): Float64Array {
  const { hiddenSize: H } = statistics;
  const frequency = overDomains(statistics, "frequency");
  const squares = overDomains(statistics, "squaredNormSum");
  const means = meanOutputs(statistics);
  return frequency.map((n, e) => {
    if (n === 0) return 0;
    const mean = means.subarray(e * H, (e + 1) * H).reduce((sum, value) => sum + value * value, 0);
    return Math.sqrt(Math.max(0, squares[e]! / n - mean));
  });
}

function leaving({ layers }: PruningPlan, layer: number, { numExperts }: MoeDescription): number[] {
  const { kept } = layers[String(layer)]!;
  return Array.from({ length: numExperts }, (_, e) => e).filter((e) => !kept.includes(e));
}
