import type { z } from "zod";
import { comparisonRecipeSchema, type ComparisonRecipe } from "../../protocol/compare";
import { recipeSchema, type Recipe } from "../../protocol/recipe";

export interface RecipeProblem {
  message: string;
  /** Where in the text, as character offsets. */
  start: number;
  end: number;
}

export type ParsedRecipe<T> = { recipe: T; problems: [] } | { recipe: null; problems: RecipeProblem[] };

/** Reads a recipe; every problem points at the place in the text that it is about. */
export function parseRecipe(text: string): ParsedRecipe<Recipe> {
  return parseAs(recipeSchema, text);
}

/** The same for a comparison. */
export function parseComparison(text: string): ParsedRecipe<ComparisonRecipe> {
  return parseAs(comparisonRecipeSchema, text);
}

/** True for files that describe a comparison and not one run. */
export function isComparisonFile(fileName: string): boolean {
  return fileName.endsWith(".compare.reroute.json");
}

function parseAs<T>(schema: z.ZodType<T>, text: string): ParsedRecipe<T> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const at = Math.min(Number(/position (\d+)/.exec(message)?.[1] ?? 0), Math.max(0, text.length - 1));
    return { recipe: null, problems: [{ message, start: at, end: Math.min(text.length, at + 1) }] };
  }
  const result = schema.safeParse(value);
  if (result.success) return { recipe: result.data, problems: [] };
  return {
    recipe: null,
    problems: result.error.issues.map(({ path, message, ...issue }) => {
      const unknownKey = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
      const keys = [...path, ...(unknownKey === undefined ? [] : [unknownKey])];
      return {
        message: `${path.length > 0 ? `${path.join(".")}: ` : ""}${message}`,
        ...rangeOf(text, keys.map(String)),
      };
    }),
  };
}

/**
 * Where a key path stands in JSON text: the deepest key that exists, quotes included. Keys are looked for one inside
 * the other; a text that names the same key in an earlier sibling may be marked there, which is close enough to see.
 */
export function rangeOf(text: string, keys: string[]): { start: number; end: number } {
  let from = 0;
  let found: { start: number; end: number } | null = null;
  for (const key of keys) {
    const quoted = JSON.stringify(key);
    const pattern = new RegExp(`${quoted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}\\s*:`, "g");
    pattern.lastIndex = from;
    const match = pattern.exec(text);
    if (!match) break;
    found = { start: match.index, end: match.index + quoted.length };
    from = found.end;
  }
  return found ?? { start: Math.max(0, text.indexOf("{")), end: Math.max(0, text.indexOf("{")) + 1 };
}
