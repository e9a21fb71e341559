import { sharedText } from "../../data/sharedText";
import type { Recipe } from "../../../protocol/recipe";
import type { RunPaths } from "../folder/runFolder";
import { measuredBefore, textParts } from "../stages/data";
import { describeGone, describeTrainedOn, refusedAsTrainedOn, trainedOnBy, type TrainedOn } from "../trainedOn";

/**
 * Whether a recipe measures on text that it trains on, or that what it measures was trained on before.
 *
 * @returns what to tell of where that is no refusal
 * @throws RerouteError data/trained-on, unless it is forced
 */
export async function trainedOnWarnings(
  recipe: Recipe,
  paths: RunPaths,
  { force = false, signal }: { force?: boolean; signal?: AbortSignal },
): Promise<string[]> {
  const { evaluationData } = paths;
  if (evaluationData === null) return [];
  const warnings: string[] = [];
  for (const { training, found, isTrainedOn } of await comparedTexts(recipe, paths, signal)) {
    const message = found && describeTrainedOn(evaluationData, training, found);
    if (found === null) warnings.push(describeGone(training));
    else if (message === null) continue;
    // Scores of experts come from that text too, but nothing is fitted to it.
    else if (!isTrainedOn) warnings.push(`${message}, which the experts are chosen by`);
    else if (force) warnings.push(`${message}; the verdict will say so`);
    else throw refusedAsTrainedOn(message);
  }
  return warnings;
}

/** The evaluation text beside the text of this run, and beside those that the measured checkpoint was trained on. */
async function comparedTexts(
  recipe: Recipe,
  paths: RunPaths,
  signal: AbortSignal | undefined,
): Promise<(TrainedOn & { isTrainedOn: boolean })[]> {
  const { calibrate, compress, student } = recipe;
  const [evaluation, training] = textParts(recipe, paths);
  const isTrainedOn = calibrate !== undefined;
  const isRead = isTrainedOn || (compress !== undefined && student === undefined);
  const own =
    isRead && !recipe.data.splitEvaluation
      ? [{ training: training.path, found: await sharedText(evaluation, training, signal), isTrainedOn }]
      : [];
  const measured = measuredBefore(recipe, paths);
  const earlier = measured === null ? [] : await trainedOnBy(measured, evaluation, signal);
  return [...own, ...earlier.map((result) => ({ ...result, isTrainedOn: true }))];
}
