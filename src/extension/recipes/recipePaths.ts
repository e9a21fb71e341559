import path from "node:path";
import { namedStudent } from "../../protocol/denseStudent";
import type { Recipe } from "../../protocol/recipe";
import { textFormatOf } from "../../protocol/textFormats";
import type { Translate } from "../../protocol/translate";
import { jsonPlaces } from "./jsonPlaces";
import { rangeOf, type RecipeProblem } from "./recipeProblems";

/** What the file system answers about a path; null when there is nothing. */
export type Look = (file: string) => "file" | "folder" | null;

/**
 * What the schema cannot know: whether the files that a recipe names are there. Paths are relative to `baseFolder`.
 * A checkpoint may also be one of `hubModels`, by "org/name". `output` must not exist; the engine also takes an empty folder, but a recipe written for one is rarely meant.
 */
export function recipePathProblems(
  text: string,
  recipe: Pick<Recipe, "teacher" | "student" | "source" | "data" | "compress" | "steps">,
  baseFolder: string,
  look: Look,
  t: Translate,
  hubModels: readonly string[] = [],
): RecipeProblem[] {
  const wanted: [keys: (string | number)[], file: string | undefined, kind: "file" | "folder" | "text"][] = [
    [["teacher"], recipe.teacher, "folder"],
    [["student"], namedStudent(recipe), "folder"],
    [["source"], recipe.source, "folder"],
    [["data", "calibration"], recipe.data.calibration, "text"],
    [["data", "evaluation"], recipe.data.evaluation, "text"],
    [["data", "tokenizer"], recipe.data.tokenizer, "folder"],
    [["compress", "plan"], recipe.compress?.plan, "file"],
    ...(recipe.steps ?? []).map(({ compress }, i): (typeof wanted)[number] => [
      ["steps", i, "compress", "plan"],
      compress?.plan,
      "file",
    ]),
  ];
  return wanted.flatMap(([keys, file, kind]) => {
    if (file === undefined || isThere(look(path.resolve(baseFolder, file)), file, kind)) return [];
    const modelId = kind === "folder" ? hubModelIdOf(file) : null;
    if (modelId !== null && hubModels.includes(modelId)) return [];
    const name = keys.join(".");
    const message =
      kind !== "folder"
        ? t("{0}: there is no file {1} beside this recipe", name, file)
        : modelId === null
          ? t("{0}: there is no folder {1} beside this recipe", name, file)
          : t(
              "{0}: there is no folder {1} beside this recipe, and no such model in the Hugging Face cache",
              name,
              file,
            );
    return [{ message, ...placeOf(text, keys) }];
  });
}

/** Of what one of several steps names, its value; elsewhere, its key. */
function placeOf(text: string, keys: (string | number)[]): { start: number; end: number } {
  const place = keys[0] === "steps" ? jsonPlaces(text).find((one) => one.keys.join(".") === keys.join(".")) : undefined;
  return place ? { start: place.start, end: place.end } : rangeOf(text, keys.map(String));
}

/** A text may be a file, a folder that is not named like a file, or a pattern, which only the engine resolves. */
function isThere(found: ReturnType<Look>, file: string, kind: "file" | "folder" | "text"): boolean {
  if (kind !== "text") return found === kind;
  return found === "file" || (found === "folder" && textFormatOf(file) === null) || /[*?{[]/.test(file);
}

/** "org/name" of a checkpoint that is written so, or as "org/name@revision"; null for any other path. */
export function hubModelIdOf(written: string): string | null {
  return /^(\w[\w.-]*\/\w[\w.-]*)(?:@[\w.-]+)?$/.exec(written)?.[1] ?? null;
}
