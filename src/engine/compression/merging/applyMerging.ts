import type { MergingPlan } from "../../../protocol/plan";
import type { TensorSource } from "../../checkpoint/tensorSource";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { MoeDescription } from "../../model/description";
import { throwIfCancelled } from "../../../protocol/errors";
import { MatrixProducts } from "../../linalg/products";
import { expertViews, requirePlain } from "../layer/expertMatrices";
import { LayerEngine, tokensOfExperts } from "../layer/layerEngine";
import { passOn, relativeOutputError, type RunnableLayer } from "../layer/outputError";
import type { CompressedLayer } from "../layer/compressedTensors";
import { LayerStages, type LayerStage } from "../layer/stage";
import { stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, collect, hashSequences, type MethodContext } from "../methodContext";
import { groupsOf } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { requireSums } from "../plan/validateLayout";
import { mergeGroup, needsActivations, type MergeGroup } from "./mergeGroup";
import { appliedMergeOptions, type AppliedMergeOptions } from "./options";

/** A merging plan being applied: options, stages and the products that solvers use. */
export interface MergeRun {
  context: MethodContext;
  plan: MergingPlan;
  options: AppliedMergeOptions;
  stages: LayerStages;
  products: MatrixProducts;
  /** What of the text decides the result; null where none does. */
  data: string | null;
  /** Groups of the layers already merged, which a sequential merge depends on. */
  earlier: (readonly MergeGroup[])[];
  close: () => Promise<void>;
}

export function openMergeRun(context: MethodContext, plan: MergingPlan): MergeRun {
  const options = appliedMergeOptions(plan);
  if (options.sequential) requireSums(plan.method, context.description);
  const products = new MatrixProducts(context.runtime);
  const looks = needsActivations(options) || options.sequential;
  return {
    context,
    plan,
    options,
    stages: new LayerStages(context.stateDirectory),
    products,
    earlier: [],
    data: looks ? hashSequences(calibrationOf(context, options.sequences)) : null,
    close: () => products.close(),
  };
}

/**
 * Makes the merged experts of every layer, staged on disk. Where rules look at activations (or text is at hand to measure
 * the error with), one pass over the text feeds them layer by layer; otherwise weights alone decide.
 */
export async function applyMerging(
  context: MethodContext,
  plan: MergingPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  const run = openMergeRun(context, plan);
  const done = new Map<number, CompressedLayer & LayerStage>();
  const layers = moeLayers(context.description);
  const groupsOfLayer = (layer: number) => plan.layers[String(layer)]!.groups;
  try {
    for (const [i, { layer, moe }] of layers.entries()) {
      const earlier = layers.slice(0, i).map((before) => groupsOfLayer(before.layer));
      const stage = await run.stages.find(layer, stageInputs({ ...run, earlier }, layer, groupsOfLayer(layer)));
      if (stage) done.set(layer, compressed(stage, outcomeOf(plan, groupsOfLayer(layer), moe)));
    }
    if (done.size === layers.length) return done;
    if (run.data === null && context.sequences === null) {
      for (const { layer, moe } of layers) {
        throwIfCancelled(context.signal);
        if (!done.has(layer)) done.set(layer, await applyToLayer(run, { layer, moe }, groupsOfLayer(layer), null));
      }
      return done;
    }
    await collect(context, run.options.sequences, async (collected) => {
      const layer = collected.layer.index;
      if (done.has(layer) && !run.options.sequential) return;
      done.set(layer, await applyToLayer(run, { layer, moe: collected.moe }, groupsOfLayer(layer), collected));
    });
    return done;
  } finally {
    await run.close();
  }
}

/** Merges one layer (or finds it staged), measures what it changes, and lets later layers see it where that is asked for. */
export async function applyToLayer(
  run: MergeRun,
  { layer, moe }: { layer: number; moe: MoeDescription },
  groups: readonly MergeGroup[],
  collected: CollectedLayer | null,
): Promise<CompressedLayer & LayerStage> {
  const { context, plan, options, products, stages } = run;
  const outcome = outcomeOf(plan, groups, moe);
  const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
  const notes: string[] = [];
  const runnable = (staged: LayerStage["tensors"]): RunnableLayer => ({
    ...stagedLayer(context.checkpoint, moe, outcome, staged),
    outcome,
    name: "merged",
  });
  try {
    const inputs = stageInputs(run, layer, groups);
    let stage = await stages.find(layer, inputs);
    if (stage === null) {
      const tokensByExpert = collected ? tokensOfExperts(collected) : [];
      const workspace = { engine, products, collected, tokensByExpert, moe, layer };
      const merge = (group: MergeGroup) => () => mergeGroup(workspace, group, options, notes);
      const tensors = groups.flatMap((group, position): TensorSource[] => {
        if (group.members.length === 1) return [];
        const template = moe.experts[group.dominant]!;
        group.members.forEach((e) => expertViews(moe.experts[e]!).forEach((view) => requirePlain(view, plan.method)));
        return stagedExpert(position, template, merge(group));
      });
      stage = await stages.write(
        layer,
        inputs,
        tensors,
        async (staged) => {
          if (collected === null) return { notes, metrics: {} };
          const outputError = await relativeOutputError(engine, collected, runnable(staged));
          const alone = dominantsAlone(context, plan, groups, moe);
          if (alone === null) return { notes, metrics: { outputError } };
          const dominantsError = await relativeOutputError(engine, collected, alone);
          return { notes, metrics: { outputError, dominantsError } };
        },
        context.signal,
      );
    }
    if (options.sequential && collected) await passOn(engine, collected, runnable(stage.tensors));
    run.earlier.push(groups);
    return compressed(stage, outcome);
  } finally {
    await engine.close();
  }
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

/** Everything that decides a layer's staged tensors. */
function stageInputs(
  { context, options, data, earlier }: MergeRun,
  layer: number,
  groups: readonly MergeGroup[],
): unknown {
  const { fingerprint } = context;
  return { version: 2, fingerprint, layer, groups, options, data, earlier: options.sequential ? earlier : [] };
}

function compressed(stage: LayerStage, outcome: LayerOutcome): CompressedLayer & LayerStage {
  return { ...stage, staged: stage.tensors, outcome };
}
