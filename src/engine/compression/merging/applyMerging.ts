import type { MergingPlan } from "../../../protocol/plan";
import type { TensorSource } from "../../checkpoint/tensorSource";
import type { MoeDescription } from "../../model/description";
import {
  compressLayers,
  type LayerAtHand,
  type LayerMethod,
  type LayerWork,
  type StagedLayer,
} from "../layer/compressLayers";
import { expertViews, requirePlain } from "../layer/expertMatrices";
import { tokensOfExperts } from "../layer/layerEngine";
import { relativeOutputError, type RunnableLayer } from "../layer/outputError";
import type { LayerStage } from "../layer/stage";
import { stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { groupsOf } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { requireSums } from "../plan/validateLayout";
import { mergeGroup, needsActivations, type MergeGroup } from "./mergeGroup";
import { appliedMergeOptions, type AppliedMergeOptions } from "./options";

/**
 * How a merging plan makes its layers. Where rules look at activations (or text is at hand to measure the error with), one pass
 * over the text feeds them; otherwise weights alone decide. `groupsOfLayer` may learn of a layer's groups just before it is merged.
 */
export function mergeMethod(
  context: MethodContext,
  plan: MergingPlan,
  groupsOfLayer: (layer: number) => readonly MergeGroup[],
): LayerMethod {
  const options = appliedMergeOptions(plan);
  const { sequential, sequences } = options;
  if (sequential) requireSums(plan.method, context.description);
  const looks = needsActivations(options) || sequential;
  const data = looks ? hashSequences(calibrationOf(context, sequences)) : null;
  const { fingerprint } = context;
  const layers = moeLayers(context.description).map(({ layer }) => layer);
  return {
    ...{ context, sequences, sequential, readsText: context.sequences !== null },
    inputs: (layer) => {
      const earlier = sequential ? layers.filter((other) => other < layer).map(groupsOfLayer) : [];
      return { version: 2, fingerprint, layer, groups: groupsOfLayer(layer), options, data, earlier };
    },
    prepare: (at) => prepare(context, plan, options, groupsOfLayer(at.layer), at),
    result: (layer, moe, stage) => ({
      ...{ ...stage, staged: stage.tensors, outcome: outcomeOf(plan, groupsOfLayer(layer), moe) },
    }),
  };
}

/** Makes the merged experts of every layer, staged on disk. */
export function applyMerging(context: MethodContext, plan: MergingPlan): Promise<Map<number, StagedLayer>> {
  return compressLayers(mergeMethod(context, plan, (layer) => plan.layers[String(layer)]!.groups));
}

function prepare(
  context: MethodContext,
  plan: MergingPlan,
  options: AppliedMergeOptions,
  groups: readonly MergeGroup[],
  { layer, moe, engine, products, collected }: LayerAtHand,
): LayerWork {
  const notes: string[] = [];
  const outcome = outcomeOf(plan, groups, moe);
  const tokensByExpert = collected ? tokensOfExperts(collected) : [];
  const workspace = { engine, products, collected, tokensByExpert, moe, layer };
  const merge = (group: MergeGroup) => () => mergeGroup(workspace, group, options, notes);
  return {
    tensors: groups.flatMap((group, position): TensorSource[] => {
      if (group.members.length === 1) return [];
      const template = moe.experts[group.dominant]!;
      group.members.forEach((e) => expertViews(moe.experts[e]!).forEach((view) => requirePlain(view, plan.method)));
      return stagedExpert(position, template, merge(group));
    }),
    runnable: (staged) => ({ ...stagedLayer(context.checkpoint, moe, outcome, staged), outcome, name: "merged" }),
    found: () => ({ notes }),
    measure: async (seen): Promise<Record<string, number>> => {
      const alone = dominantsAlone(context, plan, groups, moe);
      return alone === null ? {} : { dominantsError: await relativeOutputError(engine, seen, alone) };
    },
  };
}

/** Experts by group, in the order of the dominants; with `duplicate`, one slot for each original expert. */
export function outcomeOf(
  { router }: Pick<MergingPlan, "router">,
  groups: readonly MergeGroup[],
  moe: MoeDescription,
): LayerOutcome {
  const groupOf = Array.from({ length: moe.numExperts }, (_, e) =>
    groups.findIndex(({ members }) => members.includes(e)),
  );
  const experts = groups.map(({ dominant, members }) => ({
    source: dominant,
    stagedAs: members.length > 1 ? groups.findIndex((group) => group.dominant === dominant) : null,
  }));
  if (router === "duplicate") {
    return {
      experts: groupOf.map((g) => experts[g]!),
      routerRows: null,
      logicalToPhysical: null,
    };
  }
  return {
    experts,
    routerRows: router === "fold" ? groups.map(({ dominant }) => dominant) : null,
    logicalToPhysical: router === "map" ? groupOf : null,
  };
}

/**
 * The layer with its dominant experts as they are and without all others: the simplest part of any merge. Null where nothing
 * is merged, and where the router could not choose among them.
 */
function dominantsAlone(
  { checkpoint }: MethodContext,
  { router }: MergingPlan,
  groups: readonly MergeGroup[],
  moe: MoeDescription,
): RunnableLayer | null {
  const ids = groups.map(({ dominant }) => dominant);
  const chooses = router === "fold" || (groupsOf(moe) === 1 && ids.length >= moe.numExpertsPerToken);
  if (!chooses || ids.length === moe.numExperts) return null;
  const experts = ids.map((source) => ({ source, stagedAs: null }));
  const outcome = { experts, routerRows: ids, logicalToPhysical: null };
  return { ...stagedLayer(checkpoint, moe, outcome, new Map()), outcome, name: "dominants" };
}

/**
 * Says where a merge is further from the original than dropping the experts it merged: the routed output of both, on up to
 * 8,192 calibration tokens a layer, whose relative squared errors the metrics hold. At most one line.
 */
export function lostToDropping(layers: Iterable<Pick<LayerStage, "metrics">>): string[] {
  const measured = [...layers].flatMap(({ metrics: { outputError, dominantsError } }) =>
    outputError === undefined || dominantsError === undefined ? [] : [{ outputError, dominantsError }],
  );
  const lost = measured.filter(({ outputError, dominantsError }) => outputError > dominantsError);
  if (lost.length === 0) return [];
  const mean = (field: "outputError" | "dominantsError") =>
    (measured.reduce((sum, error) => sum + error[field], 0) / measured.length).toPrecision(3);
  return [
    `in ${lost.length} of ${measured.length} layers the merged experts' output is further from the original than that of the ` +
      `dominant experts alone (relative squared error on calibration text, mean of the layers: ${mean("outputError")} merged, ` +
      `${mean("dominantsError")} alone); there, dropping the other experts loses less than merging them`,
  ];
}
