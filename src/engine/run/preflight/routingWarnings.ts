import type { Recipe } from "../../../protocol/recipe";
import { droppedLimitsNote } from "../../compression/plan/groupLimits";
import { moeLayers } from "../../compression/plan/moeLayers";
import type { ModelDescription } from "../../model/description";

/** What is to be expected of a recipe because of how the model routes; said before any work. */
export function routingWarnings(recipe: Recipe, description: ModelDescription): string[] {
  const layers = moeLayers(description);
  const warnings: string[] = [];
  if (recipe.calibrate && layers.some(({ moe }) => moe.routing.kind === "sparse-mixer")) {
    warnings.push(
      `The routers of ${description.family} (SparseMixer in evaluation mode) get next to no gradient: a routing weight is a ` +
        `softmax over the logits close to the largest, often over that one alone, and then it does not depend on the logits. ` +
        `Expect little change from calibration; the held-out KL before and after tells`,
    );
  }
  if (recipe.compress?.groupLimits === "drop" && recipe.compress.plan === undefined) {
    warnings.push(...droppedLimitsNote(layers));
  }
  return warnings;
}
