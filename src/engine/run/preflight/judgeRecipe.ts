import { checkMethodOptions } from "../../compression/methods";
import { isPruningCriterion, pruningCriteria } from "../../compression/pruning/criteria";
import { studentToBuild } from "../../../protocol/denseStudent";
import { RerouteError } from "../../../protocol/errors";
import type { Recipe } from "../../../protocol/recipe";

/**
 * What a recipe asks for that excludes itself, whatever its checkpoints and texts hold.
 *
 * @param refuse told of every contradiction between its keys
 * @throws RerouteError arguments/invalid and plan/invalid for options that its method does not have
 */
export function judgeRecipe(recipe: Recipe, refuse: (message: string) => void): void {
  const { compress, calibrate, student, evaluateOnly, data } = recipe;
  const builds = studentToBuild(recipe) !== undefined;
  if (evaluateOnly && (compress || calibrate || builds || data.evaluation === undefined))
    refuse("A recipe with evaluateOnly names an evaluation text, and neither compresses nor calibrates");
  if (builds && compress)
    refuse("The recipe builds a dense student of the teacher, and compresses the teacher, too; keep one of both");
  if (data.splitEvaluation && data.evaluation !== undefined)
    refuse("The recipe names an evaluation text and splits one off; keep one of both");
  if (data.activeExperts && data.evaluation === undefined && !data.splitEvaluation)
    refuse(
      "The recipe asks for measures by active experts (activeExperts), but names no evaluation text to take them on; add one",
    );
  if (
    recipe.precision === "preview" &&
    (calibrate || student !== undefined || evaluateOnly || recipe.steps || measures(data))
  )
    refuse(
      "The recipe profiles with precision preview, which approximates: calibration, teacher targets and evaluations need exact numbers. Leave precision out, or keep to profile and compress",
    );
  if (calibrate && !compress && student === undefined)
    refuse("The recipe calibrates, but names neither a student nor how to compress the teacher; add one of both");
  if (!compress || compress.plan !== undefined) return;
  if (student === undefined) checkMethodOptions(compress);
  if (compress.groupLimits === "drop" && !isPruningCriterion(compress.method))
    throw new RerouteError(
      "arguments/invalid",
      `The method ${compress.method} does not drop group limits; use ${Object.keys(pruningCriteria).join(", ")}, or keep the limits`,
    );
}

function measures({ evaluation, splitEvaluation, task }: Recipe["data"]): boolean {
  return evaluation !== undefined || splitEvaluation !== undefined || task !== undefined;
}
