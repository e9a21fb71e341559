import path from "node:path";
import type { Recipe } from "../../protocol/recipe";
import type { Translate } from "../translate";
import { rangeOf, type RecipeProblem } from "./recipeProblems";

/** What the file system answers about a path; null when there is nothing. */
export type Look = (file: string) => "file" | "folder" | null;

/**
 * What the schema cannot know: whether the files that a recipe names are there. Paths are relative to `baseFolder`.
 * `output` must not exist; the engine also takes an empty folder, but a recipe written for one is rarely meant.
 */
export function recipePathProblems(
  text: string,
  recipe: Pick<Recipe, "teacher" | "student" | "data" | "compress">,
  baseFolder: string,
  look: Look,
  t: Translate,
): RecipeProblem[] {
  const wanted: [keys: string[], file: string | undefined, kind: "file" | "folder"][] = [
    [["teacher"], recipe.teacher, "folder"],
    [["student"], recipe.student, "folder"],
    [["data", "calibration"], recipe.data.calibration, "file"],
    [["data", "evaluation"], recipe.data.evaluation, "file"],
    [["compress", "plan"], recipe.compress?.plan, "file"],
  ];
  return wanted.flatMap(([keys, file, kind]) => {
    if (file === undefined || look(path.resolve(baseFolder, file)) === kind) return [];
    const message =
      kind === "file"
        ? t("{0}: there is no file {1} beside this recipe", keys.join("."), file)
        : t("{0}: there is no folder {1} beside this recipe", keys.join("."), file);
    return [{ message, ...rangeOf(text, keys) }];
  });
}
