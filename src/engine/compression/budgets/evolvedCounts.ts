import type { PruningPlan } from "../../../protocol/plan";
import { ModelExecutor } from "../../execution/modelExecutor";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { calibrationOf, type MethodContext } from "../methodContext";
import { withoutGroupLimits } from "../plan/groupLimits";
import { groupsOf } from "../plan/keptCount";
import { makePruningPlan, type PruningPlanRequest } from "../pruning/pruningPlan";
import { budgetOf, expertBudgets } from "./expertCounts";
import { measuredSearch } from "./measuredSearch";

/**
 * A pruning plan whose numbers of experts by layer were searched: the order within a layer is the criterion's, and candidates are
 * measured by running the text through the model while the experts that would leave cannot be selected, which computes what the
 * pruned model would.
 */
export async function evolvedPlan(context: MethodContext, request: PruningPlanRequest): Promise<PruningPlan> {
  const { description, runtime, checkpoint, stateDirectory, signal } = context;
  const options = budgetOf(context.options);
  const layers = moeLayers(description);
  const planAt = (counts: readonly number[]) => makePruningPlan({ ...request, counts });
  const start = expertBudgets.flatMap((name) => startOf(request, name));
  const sequences = calibrationOf(context, options.sequences);
  const blocked = new Map<number, readonly number[]>();
  const open = (model: ModelDescription) =>
    ModelExecutor.open({
      ...{ checkpoint, description: model, runtime, sequenceLength: sequences.sequenceLength, blocked },
      ...{ scratchDirectory: stateDirectory, direction: "forward" },
    });
  const removedBy = (counts: readonly number[]) => {
    const plan = planAt(counts);
    return layers.map(({ layer, moe }) => {
      const kept = new Set(plan.layers[String(layer)]!.kept);
      return moe.experts.flatMap((_, e) => (kept.has(e) ? [] : [e]));
    });
  };
  // What is measured routes as the pruned model will; what it is compared with, as it does today.
  const drops = context.options.groupLimits === "drop" && layers.some(({ moe }) => groupsOf(moe) > 1);
  const original = await open(description);
  const executor = drops ? await open(withoutLimits(description)) : original;
  try {
    const { counts, note } = await measuredSearch(context, {
      ...{ start, first: "the same number in every layer", options, sequences, decides: {}, original },
      space: {
        least: layers.map(({ moe }) => moe.numExpertsPerToken),
        most: layers.map(({ moe }) => moe.numExperts),
        total: start[0]!.reduce((sum, count) => sum + count, 0),
      },
      nameOf: removedBy,
      run: (chosen, batch) => {
        const removed = removedBy(chosen);
        for (const [i, { layer }] of layers.entries()) blocked.set(layer, removed[i]!);
        return executor.forward(batch, { signal });
      },
    });
    const plan = planAt(counts);
    return { ...plan, notes: [note, ...(plan.notes ?? [])] };
  } finally {
    if (executor !== original) await executor.close();
    await original.close();
  }
}

function withoutLimits(description: ModelDescription): ModelDescription {
  const layers = description.layers.map((layer) =>
    layer.feedForward.kind === "moe" ? { ...layer, feedForward: withoutGroupLimits(layer.feedForward) } : layer,
  );
  return { ...description, layers };
}

/** What a simpler budget would keep; nothing where it needs what is not there. */
function startOf(request: PruningPlanRequest, budget: string): number[][] {
  const { options } = request;
  if (budget === "evoesap" || (budget !== "uniform" && request.statistics === null)) return [];
  try {
    const plan = makePruningPlan({ ...request, options: { ...options, options: { ...options.options, budget } } });
    return [Object.values(plan.layers).map(({ kept }) => kept.length)];
  } catch (error) {
    if (budget === "uniform") throw error;
    return [];
  }
}
