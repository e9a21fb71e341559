import { throwIfCancelled } from "../../../protocol/errors";
import type { EditingPlan } from "../../../protocol/plan";
import type { MoeDescription } from "../../model/description";
import {
  compressLayers,
  neverRoutedNotes,
  type LayerAtHand,
  type LayerWork,
  type StagedLayer,
} from "../layer/compressLayers";
import {
  expertViews,
  projections,
  readExpert,
  readProjection,
  requirePlain,
  type Projection,
} from "../layer/expertMatrices";
import { inPlace, stagedExpert, stagedLayer, type LayerOutcome } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
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

/** Makes the edited experts of every layer, staged on disk, in the layout they were read in. */
export function applyEditing(context: MethodContext, plan: EditingPlan): Promise<Map<number, StagedLayer>> {
  const options = appliedEditOptions(plan);
  const data = editingNeedsText(plan) ? hashSequences(calibrationOf(context, options.sequences)) : null;
  const { method, output, layers, seed } = plan;
  return compressLayers({
    ...{ context, sequences: options.sequences, readsText: context.sequences !== null, sequential: false },
    inputs: (layer) => ({
      ...{ version: 1, fingerprint: context.fingerprint, layer, method, output },
      ...{ ranks: layers[String(layer)]!.ranks, options, seed, data, measured: context.sequences !== null },
    }),
    prepare: (at) => prepare(context, plan, options, at),
    result: (layer, moe, stage) => {
      const edited = editedProjections(plan, layer);
      return {
        ...{ ...stage, staged: stage.tensors, outcome: outcomeOf(plan, layer, moe) },
        ...(output === "factored" && edited.length > 0 ? { replaced: replacedTensors(moe, edited) } : {}),
      };
    },
  });
}

async function prepare(
  context: MethodContext,
  plan: EditingPlan,
  options: AppliedEditOptions,
  { layer, moe, engine, products, collected }: LayerAtHand,
): Promise<LayerWork> {
  const { checkpoint, signal } = context;
  const { hiddenSize } = context.description;
  const outcome = outcomeOf(plan, layer, moe);
  const notes =
    collected && editingNeedsText(plan)
      ? neverRoutedNotes(collected, "the layer's mean activations stand in for theirs")
      : [];
  const grams = collected && new LayerGrams(engine, collected, options.gramMix);
  const workspace: EditWorkspace = { context, engine, products, layer, moe, hiddenSize, collected, grams, notes };
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
    throwIfCancelled(signal);
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
    const original = await readExpert(checkpoint, moe.experts[expert]!, name(expert));
    const result = { ...original };
    for (const projection of edits.keys()) {
      result[projection] = (await approximate(expert, projection, original[projection])).dense;
    }
    return result;
  };
  const factors = (projection: Projection) => async (expert: number) => {
    const original = await readProjection(checkpoint, moe.experts[expert]!, projection, name(expert));
    return (await approximate(expert, projection, original)).own;
  };
  return {
    tensors:
      plan.output === "factored"
        ? [...edits].flatMap(([projection, edit]) => factoredTensors(moe, projection, edit, factors(projection)))
        : outcome.experts.flatMap(({ source, stagedAs }) =>
            stagedAs === null ? [] : stagedExpert(stagedAs, moe.experts[source]!, edited(source)),
          ),
    runnable: (staged) => {
      const dense = stagedLayer(checkpoint, moe, outcome, staged);
      const experts =
        plan.output === "factored" ? factoredExperts(moe, edits, staged, options.activation) : dense.moe.experts;
      return { checkpoint: dense.checkpoint, moe: { ...dense.moe, experts }, outcome, name: "edited" };
    },
    found: () => {
      const relative = ([projection, energy]: [Projection, number]) =>
        [`reconstructionError.${projection}`, energy > 0 ? lost.get(projection)! / energy : 0] as const;
      return { metrics: Object.fromEntries([...size].map(relative)), notes };
    },
    done: async () => {
      for (const { done } of edits.values()) await done?.();
    },
  };
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

/** Whole new weights where the output is dense and some projection is edited. */
function outcomeOf(plan: EditingPlan, layer: number, moe: MoeDescription): LayerOutcome {
  const edits = plan.output === "dense" && editedProjections(plan, layer).length > 0;
  return inPlace(moe, () => edits);
}
