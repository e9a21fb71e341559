import { describe, expect, it } from "vitest";
import { recipePathProblems } from "../../../src/extension/recipes/recipePaths";
import { isComparisonFile, parseComparison, parseRecipe, rangeOf } from "../../../src/extension/recipes/recipeProblems";
import { english } from "../../../src/protocol/translate";

const good = `{
  "schemaVersion": 1,
  "teacher": "checkpoint",
  "data": { "calibration": "calibration.jsonl", "evaluation": "evaluation.jsonl" },
  "compress": { "method": "reap", "keep": 0.375 },
  "output": "out"
}`;

describe("a recipe's text", () => {
  it("is read with its defaults", () => {
    expect(parseRecipe(good).recipe).toMatchObject({
      seed: 42,
      data: { sequences: 3000 },
      compress: { protectSuperExperts: "off" },
    });
  });

  it.each<[string, string, RegExp, string]>([
    ["a wrong type", good.replace('"checkpoint"', "3"), /^teacher: .*string/, '"teacher"'],
    ["a wrong method", good.replace('"reap"', '"reep"'), /^compress.method/, '"method"'],
    ["an unknown key", good.replace('"keep": 0.375', '"kep": 0.375'), /kep/, '"kep"'],
    ["a missing part", good.replace(/"data".*\n/, ""), /^data/, "{"],
  ])("%s is marked where it is", (_, text, message, marked) => {
    const { problems } = parseRecipe(text);
    expect(problems[0]!.message).toMatch(message);
    expect(text.slice(problems[0]!.start, problems[0]!.end)).toBe(marked);
  });

  it.each(["", "{", "[1,", "nonsense"])("broken JSON %j has one problem inside the text", (text) => {
    const { recipe, problems } = parseRecipe(text);
    expect(recipe).toBeNull();
    expect(problems).toHaveLength(1);
    expect(problems[0]!.end).toBeLessThanOrEqual(text.length);
  });

  it("finds a nested key behind a sibling of the same name", () => {
    const text = '{ "data": { "calibration": "x" }, "compress": { "plan": "p" } }';
    const { start, end } = rangeOf(text, ["compress", "plan"]);
    expect(text.slice(start, end)).toBe('"plan"');
  });
});

it("names of missing files are marked, present ones are not", () => {
  const { recipe } = parseRecipe(good);
  const there: Record<string, "file" | "folder"> = { "/r/checkpoint": "folder", "/r/calibration.jsonl": "folder" };
  const problems = recipePathProblems(good, recipe!, "/r", (file) => there[file] ?? null, english);
  expect(problems.map(({ message }) => message)).toEqual([
    "data.calibration: there is no file calibration.jsonl beside this recipe",
    "data.evaluation: there is no file evaluation.jsonl beside this recipe",
  ]);
  expect(good.slice(problems[0]!.start, problems[0]!.end)).toBe('"calibration"');
});

it.each<[string, RegExp | null]>([
  ["org/model", null],
  ["org/model@main", null],
  ["org/other", /no folder org\/other beside this recipe, and no such model/],
  ["./org/model", /no folder \.\/org\/model beside this recipe$/],
])("a teacher may be a model of the Hugging Face cache: %s", (name, message) => {
  const text = good.replace('"checkpoint"', JSON.stringify(name));
  const look = (file: string) => (file.startsWith("/r/org") ? null : file.endsWith("jsonl") ? "file" : "folder");
  const problems = recipePathProblems(text, parseRecipe(text).recipe!, "/r", look, english, ["org/model"]);
  expect(problems.map((problem) => problem.message)).toEqual(message === null ? [] : [expect.stringMatching(message)]);
});

it.each<[string, "file" | "folder" | null, boolean]>([
  ["texts", "folder", true],
  ["texts", null, false],
  ["texts/**/*.jsonl", null, true],
  ["text.parquet", "file", true],
])("a text may be a folder or a pattern: %s, %s", (name, found, fine) => {
  const text = good.replace('"calibration.jsonl"', JSON.stringify(name));
  const { recipe } = parseRecipe(text);
  const look = (file: string) => (file === `/r/${name}` ? found : file === "/r/evaluation.jsonl" ? "file" : "folder");
  expect(recipePathProblems(text, recipe!, "/r", look, english).length).toBe(fine ? 0 : 1);
});

describe("a comparison's text", () => {
  const comparison = good
    .replace(/"compress".*\n/, '"grid": { "methods": ["reap"], "keep": [0.5] }\n')
    .replace(/,?\s*"output": "out"/, "");

  it("is read with its defaults, and told from a recipe by its name", () => {
    expect(parseComparison(comparison).recipe).toMatchObject({ grid: { keep: [0.5] }, provider: "auto" });
    expect(parseRecipe(comparison).recipe).toBeNull();
    expect(["a.compare.reroute.json", "a.reroute.json"].map(isComparisonFile)).toEqual([true, false]);
  });

  it("is marked where it is wrong", () => {
    const text = comparison.replace('"reap"', '"reep"');
    const { problems } = parseComparison(text);
    expect(problems[0]!.message).toMatch(/^grid.methods.0/);
    expect(text.slice(problems[0]!.start, problems[0]!.end)).toBe('"methods"');
  });
});
