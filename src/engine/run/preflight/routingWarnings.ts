import type { Recipe } from "../../../protocol/recipe";
import { compressedDescription } from "../../compression/compressedDescription";
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

/** Servers place experts in groups of this size: their routing kernels and expert parallelism need counts that divide. */
const placedTogether = 8;

/**
 * What servers and the model's positions will make of a recipe; said before any work.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function fittingWarnings(
  { compress, data, student }: Recipe,
  description: ModelDescription,
  maxPositions: unknown,
): string[] {
  const warnings: string[] = [];
  if (typeof maxPositions === "number" && data.sequenceLength > maxPositions) {
    warnings.push(
      `Sequences of ${data.sequenceLength} tokens are longer than the ${maxPositions} positions of this model (max_position_embeddings); what it does with the rest says little. --sequence-length ${maxPositions} fits`,
    );
  }
  if (compress && compress.plan === undefined && student === undefined) {
    const after = compressedDescription(description, compress, null);
    const counts = new Set(
      moeLayers(after).flatMap(({ moe }, i) => {
        const before = moeLayers(description)[i]!.moe.numExperts;
        return moe.numExperts < before && moe.numExperts % placedTogether !== 0 ? [moe.numExperts] : [];
      }),
    );
    for (const count of counts) {
      const nearest = Math.max(placedTogether, Math.round(count / placedTogether) * placedTogether);
      warnings.push(
        `${count} experts a layer would stay, which is no multiple of ${placedTogether}: servers that split experts over devices, and some routing kernels of vLLM, cannot place them. keep ${nearest} can be placed`,
      );
    }
  }
  return warnings;
}
