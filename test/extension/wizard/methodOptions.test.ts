import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { checkMethodOptions } from "../../../src/engine/compression/methods";
import { chosenTwice, methodOptions, optionWords, type OptionValue } from "../../../src/extension/wizard/methodOptions";
import { actionOf } from "../../../src/extension/wizard/actionOf";
import { compressionMethods, hasNoRatio, type CompressionMethod } from "../../../src/protocol/methods";
import { compressOptions } from "../../../src/protocol/recipe";
import { checkpoint } from "./checkpoints";

const schema: unknown = JSON.parse(readFileSync("media/schemas/recipe.schema.json", "utf8"));
const offered = (method: CompressionMethod) => methodOptions(schema, method);

it.each(compressionMethods)(
  "every value that is offered of %s is one that the engine takes, and no option has one alone",
  (method) => {
    for (const { name, description, standard, others } of offered(method)) {
      expect(description, name).not.toBe("");
      for (const value of [standard, ...others.map((other) => other.value)])
        checkMethodOptions(compressOptions.parse({ method, options: { [name]: value } }));
    }
    expect(() => checkMethodOptions(compressOptions.parse({ method, options: { magic: 1 } }))).toThrow(/magic/);
  },
);

it.each<[CompressionMethod, string, OptionValue, RegExp]>([
  ["reap", "budget", "evoesap", /runs the model some 200 times/],
  ["gptq", "allocate", "loss", /half as many passes as widths times layers/],
  ["gptq", "bits", 3, /^$/],
  ["ream", "router", "map", /loads in Reroute only/],
  ["wanda", "pattern", "4:8", /half of every 4 or 8/],
  ["neurons", "width", "layer", /widths of their own/],
  ["ean", "reduction", "sum", /their sum/],
  ["rtn", "symmetric", false, /^$/],
])("%s offers %s=%s and says what it costs", (method, name, value, about) => {
  const option = offered(method).find((one) => one.name === name);
  expect(option?.others.find((other) => other.value === value)?.about).toMatch(about);
});

it("names an option of which two values were ticked", () => {
  expect(
    chosenTwice([
      ["bits", 3],
      ["scale", "mse"],
    ]),
  ).toBeNull();
  expect(
    chosenTwice([
      ["bits", 3],
      ["bits", 2],
    ]),
  ).toBe("bits");
});

it("says options as they are written", () => {
  expect(optionWords({ allocate: "loss", bits: 3 })).toBe("allocate=loss, bits=3");
  expect(optionWords()).toBe("");
});

it("results of methods without a ratio are named by their bits", () => {
  const named = (method: CompressionMethod, chosen?: Record<string, OptionValue>) =>
    actionOf({
      context: { purpose: "compress", checkpoint: checkpoint() },
      answers: { method, keep: 0.625, ...(chosen ? { options: { method, chosen } } : {}) },
    });
  expect(["gptq", "router-rtn", "svd"].map((method) => hasNoRatio(method as CompressionMethod))).toEqual([
    true,
    true,
    false,
  ]);
  expect(named("gptq")).toBe("gptq");
  expect(named("gptq", { bits: 3 })).toBe("gptq-3bit");
  expect(named("svd")).toBe("svd-0.625");
});
