import path from "node:path";
import type { ComparisonRecipe } from "../../../protocol/compare";
import type { Recipe } from "../../../protocol/recipe";
import { resolveHubPath } from "../../checkpoint/hubCache";
import { runPaths } from "../folder/runFolder";

/** Folders that the tiles of a run or comparison name: its own, and checkpoints. */
export async function foldersOf({
  directory,
  recipe,
  baseFolder,
}: {
  directory: string;
  recipe: Recipe | ComparisonRecipe;
  baseFolder: string;
}): Promise<string[]> {
  const own = path.resolve(directory);
  if ("grid" in recipe) return [own, await resolveHubPath(path.resolve(baseFolder, recipe.teacher), recipe.teacher)];
  const { teacher, source, student, output } = await runPaths(directory, recipe, baseFolder);
  return [own, teacher, source, student, output];
}
