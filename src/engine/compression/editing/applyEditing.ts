import { throwIfCancelled } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { MoeDescription } from "../../model/description";
import {
  expertViews,
  projections,
  readExpert,
  readProjection,
  requirePlain,
  type Projection,
} from "../layer/expertMatrices";
import type { CompressedLayer } from "../layer/compressedTensors";
import { LayerEngine } from "../layer/layerEngine";
import { relativeOutputError } from "../layer/outputError";
import { LayerStages, type LayerStage } from "../layer/stage";
import { stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { MatrixProducts } from "../../linalg/products";
import { calibrationOf, collect, hashSequences, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { editByBaseDelta } from "./baseDelta";
import { shapeOf, type EditedProjection, type EditWorkspace } from "./editWorkspace";
import { factoredExperts, factoredTensors, replacedTensors, requireSeparateExperts } from "./factoredTensors";
import { LayerGrams } from "./grams";
import { editByMobe } from "./mobe";
import { appliedEditOptions, type AppliedEditOptions } from "./options";
import { editBySvd } from "./svd";
import { editByTucker } from "./tucker";

/** Whether applying an editing plan looks at activations. */
export function editingNeedsText({ method }: EditingPlan): boolean {
  return method === "svd-llm" || method === "d2-moe" || method === "td-moe";
}

interface EditRun {
  context: MethodContext;
  plan: EditingPlan;
  options: AppliedEditOptions;
  stages: LayerStages;
  products: MatrixProducts;
  data: string | null;
}

/** Makes the edited experts of every layer, staged on disk, in the layout they were read in. */
export async function applyEditing(
  context: MethodContext,
  plan: EditingPlan,
): Promise<Map<number, CompressedLayer & LayerStage>> {
  const options = appliedEditOptions(plan);
  const run: EditRun = {
    context,
    plan,
    options,
    stages: new LayerStages(context.stateDirectory),
    products: new MatrixProducts(context.runtime),
    data: editingNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null,
  };
  const layers = moeLayers(context.description);
  const done = new Map<number, CompressedLayer & LayerStage>();
  try {
    for (const { layer, moe } of layers) {
      const stage = await run.stages.find(layer, stageInputs(run, layer));
      if (stage) done.set(layer, finished(plan, layer, moe, stage));
    }
    if (done.size === layers.length) return done;
    if (context.sequences === null) {
      for (const { layer, moe } of layers) {
        if (!done.has(layer)) done.set(layer, await applyToLayer(run, layer, moe, null));
      }
      return done;
    }
    await collect(context, options.sequences, async (collected) => {
      const layer = collected.layer.index;
      if (!done.has(layer)) done.set(layer, await applyToLayer(run, layer, collected.moe, collected));
    });
    return done;
  } finally {
    await run.products.close();
  }
}

async function applyToLayer(
  run: EditRun,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): Promise<CompressedLayer & LayerStage> {
  const { context, plan, options, stages, products } = run;
  const { hiddenSize } = context.description;
  const engine = new LayerEngine(context.runtime, context.checkpoint, hiddenSize);
  const outcome = outcomeOf(plan, layer, moe);
  const notes: string[] = [];
  try {
    const grams = collected && new LayerGrams(engine, collected, options.gramMix);
    const workspace: EditWorkspace = { context, engine, products, layer, moe, hiddenSize, collected, grams, notes };
    noteRareExperts(workspace, plan);
    const edits = new Map<Projection, EditedProjection>();
    if (editedProjections(plan, layer).length > 0) {
      if (plan.output === "factored") requireSeparateExperts(moe, layer);
      moe.experts.forEach((expert) => expertViews(expert).forEach((view) => requirePlain(view, plan.method)));
      for (const projection of projections) {
        const edit = await editProjection(workspace, plan, options, projection);
        if (edit) edits.set(projection, edit);
      }
    }
    const size = new Map<Projection, number>();
    const lost = new Map<Projection, number>();
    const name = (expert: number) => `expert ${expert} of layer ${layer}`;
    const approximate = async (expert: number, projection: Projection, original: Float32Array) => {
      throwIfCancelled(context.signal);
      const result = await edits.get(projection)!.ofExpert(expert, original);
      let [energy, error] = [0, 0];
      for (let i = 0; i < original.length; i++) {
        energy += original[i]! ** 2;
        error += (original[i]! - result.dense[i]!) ** 2;
      }
      size.set(projection, (size.get(projection) ?? 0) + energy);
      lost.set(projection, (lost.get(projection) ?? 0) + error);
      return result;
    };
    const edited = (expert: number) => async () => {
      const original = await readExpert(context.checkpoint, moe.experts[expert]!, name(expert));
      const result = { ...original };
      for (const projection of edits.keys()) {
        result[projection] = (await approximate(expert, projection, original[projection])).dense;
      }
      return result;
    };
    const factors = (projection: Projection) => async (expert: number) => {
      const original = await readProjection(context.checkpoint, moe.experts[expert]!, projection, name(expert));
      return (await approximate(expert, projection, original)).own;
    };
    const tensors =
      plan.output === "factored"
        ? [...edits].flatMap(([projection, edit]) => factoredTensors(moe, projection, edit, factors(projection)))
        : outcome.experts.flatMap(({ source, stagedAs }) =>
            stagedAs === null ? [] : stagedExpert(stagedAs, moe.experts[source]!, edited(source)),
          );
    const stage = await stages.write(
      layer,
      stageInputs(run, layer),
      tensors,
      async (staged) => {
        const metrics: Record<string, number> = {};
        for (const [projection, energy] of size) {
          metrics[`reconstructionError.${projection}`] = energy > 0 ? lost.get(projection)! / energy : 0;
        }
        if (collected) {
          const dense = stagedLayer(context.checkpoint, moe, outcome, staged);
          const experts =
            plan.output === "factored" ? factoredExperts(moe, edits, staged, options.activation) : dense.moe.experts;
          const runnable = { checkpoint: dense.checkpoint, moe: { ...dense.moe, experts }, outcome, name: "edited" };
          metrics["outputError"] = await relativeOutputError(engine, collected, runnable);
        }
        return { metrics, notes };
      },
      context.signal,
    );
    for (const { done } of edits.values()) await done?.();
    return finished(plan, layer, moe, stage);
  } finally {
    await engine.close();
  }
}

/** The edit of one projection, or null where its rank is 0: left as it is. */
async function editProjection(
  workspace: EditWorkspace,
  { method, layers }: EditingPlan,
  options: AppliedEditOptions,
  projection: Projection,
): Promise<EditedProjection | null> {
  const { ranks } = layers[String(workspace.layer)]!;
  const rank = ranks[projection] ?? 0;
  if (method === "td-moe") {
    const [m, n] = shapeOf(workspace, projection);
    const [experts, outputs, inputs] = [`experts`, `outputs`, `inputs`].map(
      (part) => ranks[`${projection}.${part}`] ?? 0,
    );
    if (!experts || !outputs || !inputs) return null;
    const most = Math.min(m, outputs);
    return editByTucker(
      workspace,
      projection,
      { experts, outputs: most, inputs: Math.min(n, inputs) },
      options.exponent,
    );
  }
  if (rank === 0) return null;
  const [rows, columns] = shapeOf(workspace, projection);
  const limit = method === "mobe" ? columns : Math.min(rows, columns);
  if (rank > limit) {
    workspace.notes.push(
      `layer ${workspace.layer}: rank ${rank} of ${projection} is above the matrix's ${limit}; ${limit} used`,
    );
  }
  if (method === "mobe") {
    if (projection === "downProj") return null;
    const bases = ranks[`${projection}.bases`] ?? 2;
    return editByMobe(workspace, projection, { ...options, bases, rank: Math.min(rank, limit) });
  }
  if (method === "d2-moe") return editByBaseDelta(workspace, projection, Math.min(rank, limit), options.base);
  return editBySvd(workspace, projection, Math.min(rank, limit), method === "svd-llm");
}

/** Projections that a plan changes in a layer. */
function editedProjections({ layers, method }: EditingPlan, layer: number): Projection[] {
  const { ranks } = layers[String(layer)]!;
  return projections.filter((projection) => {
    if (method === "td-moe") {
      return ["experts", "outputs", "inputs"].every((part) => (ranks[`${projection}.${part}`] ?? 0) > 0);
    }
    return (ranks[projection] ?? 0) > 0 && !(method === "mobe" && projection === "downProj");
  });
}

function finished(
  plan: EditingPlan,
  layer: number,
  moe: MoeDescription,
  stage: LayerStage,
): CompressedLayer & LayerStage {
  const edited = editedProjections(plan, layer);
  return {
    ...stage,
    staged: stage.tensors,
    outcome: outcomeOf(plan, layer, moe),
    ...(plan.output === "factored" && edited.length > 0 ? { replaced: replacedTensors(moe, edited) } : {}),
  };
}

/** Every expert in its place; whole new weights where the output is dense and some projection is edited. */
function outcomeOf(plan: EditingPlan, layer: number, moe: MoeDescription): LayerOutcome {
  const edits = plan.output === "dense" && editedProjections(plan, layer).length > 0;
  return {
    experts: moe.experts.map((_, e) => ({ source: e, stagedAs: edits ? e : null })),
    routerRows: null,
    logicalToPhysical: null,
  };
}

function noteRareExperts({ grams, moe, layer, notes, collected }: EditWorkspace, plan: EditingPlan): void {
  if (grams === null || !editingNeedsText(plan)) return;
  const unused = moe.experts.flatMap((_, e) => (grams.routed(e) === 0 ? [e] : []));
  if (unused.length === 0) return;
  notes.push(
    `layer ${layer}: ${unused.length} of ${moe.numExperts} experts never routed by ${collected!.numTokens} calibration tokens ` +
      `(${unused.join(", ")}); the layer's mean activations stand in for theirs`,
  );
}

function stageInputs({ context, plan, options, data }: EditRun, layer: number): unknown {
  const { method, layers, seed } = plan;
  return {
    version: 1,
    fingerprint: context.fingerprint,
    layer,
    method,
    output: plan.output,
    ranks: layers[String(layer)]!.ranks,
    options,
    seed,
    data,
    measured: context.sequences !== null,
  };
}
