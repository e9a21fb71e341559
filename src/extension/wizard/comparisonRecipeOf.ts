import { comparisonRecipeSchema, type ComparisonRecipe } from "../../protocol/compare";
import { calibrateOptions } from "../../protocol/calibrateOptions";
import type { Answers, WizardContext } from "./questions";
import { evaluationSequences, learningRate, type RecipeSurroundings } from "./recipeOf";

/** What a comparison takes from the settings, and the size of its held-out text. */
export type ComparisonSurroundings = Pick<RecipeSurroundings, "name" | "memory" | "threads" | "provider"> & {
  heldOutTokens: number;
};

/**
 * The comparison that answered questions stand for.
 * @throws RangeError where the wizard ended before everything was answered; ZodError for what no comparison can hold
 */
export function comparisonRecipeOf(
  { checkpoint }: WizardContext,
  { methods, ratios, recovery, text, heldOut, amount }: Answers,
  around: ComparisonSurroundings,
): ComparisonRecipe {
  if (!methods || !ratios || text === undefined || heldOut === undefined || !amount)
    throw new RangeError("the wizard ended before methods, ratios, texts and amount were chosen");
  return comparisonRecipeSchema.parse({
    schemaVersion: 1,
    name: around.name,
    teacher: checkpoint.path,
    data: {
      calibration: text,
      evaluation: heldOut,
      ...amount,
      evaluationSequences: evaluationSequences(around.heldOutTokens, amount),
    },
    grid: { methods, keep: ratios },
    ...(recovery ? { calibrate: calibrateOptions.parse(learningRate(checkpoint.parametersTotal)) } : {}),
    ...(around.memory === null ? {} : { memory: around.memory }),
    ...(around.threads === null ? {} : { threads: around.threads }),
    provider: around.provider,
  });
}
