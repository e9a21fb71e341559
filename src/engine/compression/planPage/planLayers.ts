import type { CompressionPlan } from "../../../protocol/plan";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { withoutGroupLimits } from "../plan/groupLimits";
import { moeLayers } from "../../model/moeLayers";
import { predictionLayers } from "../plan/predictionLayers";

export interface PlanLayer {
  layer: number;
  /** The layer as it routes under the plan. */
  moe: MoeDescription;
}

/** The layers of a checkpoint that a plan speaks of, in order; a prediction layer where the plan names it. */
export function planLayers(plan: CompressionPlan, description: ModelDescription): PlanLayer[] {
  const named = plan.paradigm === "pruning" ? predictionLayers(description) : [];
  const isDropped = plan.paradigm === "pruning" && plan.groupLimits === "drop";
  return [...moeLayers(description), ...named]
    .filter(({ layer }) => Object.hasOwn(plan.layers, String(layer)))
    .map(({ layer, moe }) => ({ layer, moe: isDropped ? withoutGroupLimits(moe) : moe }));
}
