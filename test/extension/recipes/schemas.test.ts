import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import { z } from "zod";
import { comparisonRecipeSchema } from "../../../src/protocol/compare";
import { planSchema } from "../../../src/protocol/plan";
import { recipeSchema } from "../../../src/protocol/recipe";
import { withMethodOptions, withOptionsOfEach } from "../../support/methodOptionSchemas";

/** The schemas that package.json contributes are made from the code; UPDATE_SCHEMAS=1 writes them anew. */
it.each([
  ["recipe", recipeSchema, withMethodOptions],
  ["comparison", comparisonRecipeSchema, withOptionsOfEach],
  ["compression-plan", planSchema, (json: Record<string, unknown>) => json],
] as const)("media/schemas/%s.schema.json is in step with the code", (name, schema, complete) => {
  const file = `media/schemas/${name}.schema.json`;
  const json = complete(z.toJSONSchema(schema, { io: "input", target: "draft-7" }));
  if (process.env["UPDATE_SCHEMAS"]) writeFileSync(file, `${JSON.stringify(json, null, 2)}\n`);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(JSON.parse(JSON.stringify(json)));
});
