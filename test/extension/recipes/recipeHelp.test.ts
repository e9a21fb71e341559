import { describe, expect, it } from "vitest";
import { jsonPlaces, placeAt } from "../../../src/extension/recipes/jsonPlaces";
import { hoverAt, keepHints, lastRunOf, lastVerdict, pathChoices } from "../../../src/extension/recipes/recipeHelp";
import { parseComparison, parseRecipe } from "../../../src/extension/recipes/recipeProblems";
import { expanded, recipeTemplates } from "../../../src/extension/recipes/recipeTemplates";
import { english } from "../../../src/protocol/translate";
import type { CheckpointSummary } from "../../../src/protocol/checkpointSummary";
import type { RunSummary } from "../../../src/protocol/panels";
import { compressionMethods } from "../../../src/protocol/methods";

const recipe = `{
  "teacher": "models/qwen",
  "data": { "calibration": "texts/a.jsonl", "sequences": 12 },
  "compress": { "method": "reap", "keep": 0.625 },
  "grid": { "methods": ["svd", "ream"], "keep": [0.75, 40] }
}`;

describe("places in JSON", () => {
  it("are every scalar with the keys that lead to it", () => {
    expect(jsonPlaces(recipe).map(({ keys, value }) => `${keys.join(".")}=${value}`)).toEqual([
      "teacher=models/qwen",
      "data.calibration=texts/a.jsonl",
      "data.sequences=12",
      "compress.method=reap",
      "compress.keep=0.625",
      "grid.methods.0=svd",
      "grid.methods.1=ream",
      "grid.keep.0=0.75",
      "grid.keep.1=40",
    ]);
  });
  it.each([
    ["a string without its end", '{ "teacher": "mod\n', 15, "teacher", "mod"],
    ["an object without its end", '{ "data": { "calibration": "x', 29, "data.calibration", "x"],
    ["escapes", '{ "a\\"b": "c\\\\d" }', 12, 'a"b', "c\\d"],
  ])("are found while they are typed: %s", (_, text, offset, keys, value) => {
    expect(placeAt(text, offset)).toMatchObject({ value });
    expect(placeAt(text, offset)?.keys.join(".")).toBe(keys);
  });
  it("keys are none", () => expect(placeAt(recipe, recipe.indexOf("teacher"))).toBeNull());
});

describe("hover", () => {
  const at = (word: string) => hoverAt(recipe, recipe.indexOf(word) + 1, english)?.text ?? null;
  it("explains a method, in recipes and grids, and what keep means for it", () => {
    expect(at("reap")).toMatch(/^\*\*reap\*\*\n\nDrop experts with the smallest .*transformers.*share, or the number/s);
    expect(at("svd")).toMatch(/share of the experts' parameters/);
    expect(at("ream")).toMatch(/remain after merging/);
    expect(at("models/qwen")).toBeNull();
  });
  it.each(compressionMethods)("knows %s", (method) => {
    const text = `{ "compress": { "method": "${method}" } }`;
    expect(hoverAt(text, text.indexOf(method), english)?.text).toContain(`**${method}**`);
  });
});

describe("keep", () => {
  const model = (...experts: number[]) =>
    ({ layers: experts.map((n) => ({ moe: n === 0 ? null : { numExperts: n } })) }) as unknown as CheckpointSummary;
  const known = (experts: number, routingGroups?: number): CheckpointSummary => ({
    ...model(experts),
    supported: true,
    ...(routingGroups === undefined ? {} : { routingGroups }),
  });
  const hints = (text: string, checkpoint: CheckpointSummary) =>
    keepHints(text, checkpoint, english).map((h) => h.text);
  it.each<[string, string, CheckpointSummary, string[]]>([
    ["a share and a count", recipe, model(128, 128), ["80 of 128", "96 of 128", "40 of 128"]],
    ["layers of two sizes", '{ "compress": { "keep": 0.5 } }', model(0, 64, 128), ["32 of 64 to 64 of 128"]],
    ["a method that shrinks experts keeps them all", '{ "compress": { "method": "svd", "keep": 0.5 } }', model(8), []],
    ["a share whose count depends on the router's groups", '{ "compress": { "keep": 0.6 } }', model(128), []],
    ["a share of experts that no group limits", '{ "compress": { "keep": 0.6 } }', known(128), ["77 of 128"]],
    ["the same of groups that agree", '{ "compress": { "keep": 0.375 } }', known(128, 8), ["48 of 128"]],
    ["of groups that do not, unless their limit is dropped", '{ "compress": { "keep": 0.6 } }', known(128, 8), []],
    ["a multiple", '{ "compress": { "keep": 0.5, "multipleOf": 3 } }', model(128), []],
    ["a dense model", recipe, model(0, 0), []],
  ])("%s", (_, text, checkpoint, expected) => {
    expect(hints(text, checkpoint)).toEqual(expected);
  });
});

describe("paths", () => {
  const folders: Record<string, [string, boolean][]> = {
    "/w": [
      ["models", true],
      ["texts", true],
      ["a.jsonl", false],
      ["plan.json", false],
      [".git", true],
      ["x.bin", false],
    ],
    "/w/models": [
      ["qwen", true],
      ["readme.txt", false],
    ],
  };
  const list = (folder: string) => (folders[folder] ?? []).map(([name, isFolder]) => ({ name, isFolder }));
  /** Completions where the bar stands, and the text after the first of them is taken. */
  const complete = (written: string) => {
    const offset = written.indexOf("|");
    const text = written.replace("|", "");
    const choices = pathChoices(text, offset, "/w", list);
    const [first] = choices ?? [];
    return (
      choices && [
        choices.map(({ label }) => label),
        first ? text.slice(0, first.start) + first.label + text.slice(first.end) : "",
      ]
    );
  };
  it.each<[string, unknown]>([
    ['{ "teacher": "|" }', [["models/", "texts/"], '{ "teacher": "models/" }']],
    ['{ "teacher": "models/|" }', [["qwen/"], '{ "teacher": "models/qwen/" }']],
    ['{ "teacher": "models/q|wen" }', [["qwen/"], '{ "teacher": "models/qwen/" }']],
    [
      '{ "data": { "calibration": "| } }',
      [["models/", "texts/", "a.jsonl", "plan.json"], '{ "data": { "calibration": "models/'],
    ],
    ['{ "compress": { "plan": "|" } }', [["models/", "texts/", "plan.json"], '{ "compress": { "plan": "models/" } }']],
    ['{ "compress": { "method": "|" } }', null],
    ['{ "teac|her": "" }', null],
  ])("%s", (written, expected) => {
    const result = complete(written);
    if (result && expected && written.includes('"| }')) expect(result[0]).toEqual((expected as unknown[])[0]);
    else expect(result).toEqual(expected);
  });
});

describe("templates", () => {
  it.each(recipeTemplates(english))("$label makes a file that follows its schema", ({ snippet, ending }) => {
    const text = expanded(snippet);
    const { problems } = ending === ".reroute.json" ? parseRecipe(text) : parseComparison(text);
    expect(problems).toEqual([]);
  });
});

describe("the last verdict", () => {
  const run = (more: Partial<RunSummary>) =>
    ({
      baseFolder: "/w",
      teacher: "m",
      output: "out",
      state: "done",
      verdict: null,
      klBefore: null,
      klAfter: null,
      ...more,
    }) as RunSummary;
  it("is of the newest run with the same teacher and output, wherever relative paths start", () => {
    const other = run({ output: "out-2" });
    const same = run({ baseFolder: "/", teacher: "w/m", output: "/w/out" });
    expect(lastRunOf({ teacher: "m", output: "out" }, "/w", [other, same, run({})])).toBe(same);
    expect(lastRunOf({ teacher: "n", output: "out" }, "/w", [run({})])).toBeNull();
  });
  it.each([
    [run({ verdict: "recovered", klBefore: 0.25, klAfter: 0.179 }), "Last verdict: recovered · KL 0.250 → 0.179"],
    [run({ state: "failed" }), "Last run: failed"],
  ])("reads %#", (summary, expected) => {
    expect(lastVerdict(summary, english)).toBe(expected);
  });
});
