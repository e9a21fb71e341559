import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { measureComputeRates } from "../../../../src/engine/compression/cost/computeRates";
import { iteratesSubspaces, methodCost, secondsOf } from "../../../../src/engine/compression/cost/methodCost";
import type { ModelDescription } from "../../../../src/engine/model/description";
import { families } from "../../../../src/engine/model/families/index";
import { estimateStages } from "../../../../src/engine/run/preflight/estimates";
import { compressionMethods } from "../../../../src/protocol/methods";
import { compressOptions, recipeSchema } from "../../../../src/protocol/recipe";
import { goldens, openModel, runtime } from "../support";

const text = { sequences: 32, sequenceLength: 512 };
const rates = { float32: 1e11, float64: 5e10, plain: 1e9, subspace: 1e10 };
let model: ModelDescription;
/** One layer shaped like Qwen3-30B-A3B's; only shapes are looked at. */
let large: ModelDescription;
beforeAll(async () => {
  ({ description: model } = await openModel(path.join(goldens, "qwen3_moe/checkpoint")));
  const layer = model.layers[0]!;
  const shape = { numExperts: 128, numExpertsPerToken: 8, intermediateSize: 768 };
  const feedForward = { ...layer.feedForward, ...shape } as typeof layer.feedForward;
  large = { ...model, hiddenSize: 2048, layers: [{ ...layer, feedForward }] };
});

describe.each(compressionMethods)("%s", (method) => {
  const of = (description: ModelDescription, more: object = {}, sizes = text) =>
    methodCost(compressOptions.parse({ method, ...more }), description, sizes);

  it("is finite for every family, and grows with layers and tokens", async () => {
    for (const family of families.keys()) {
      const { description } = await openModel(path.join(goldens, family, "checkpoint"));
      const cost = of(description, { keep: 0.75 });
      for (const value of Object.values(cost)) expect(Number.isFinite(value) && value >= 0).toBe(true);
    }
    const twice = { ...large, layers: [large.layers[0]!, { ...large.layers[0]!, index: 1 }] };
    expect(secondsOf(of(twice), rates)).toBeCloseTo(2 * secondsOf(of(large), rates), 6);
    expect(of(twice).workingBytes).toBe(of(large).workingBytes);
    const [few, many] = [1, 32].map((sequences) => of(large, {}, { ...text, sequences }));
    expect(secondsOf(many!, rates)).toBeGreaterThanOrEqual(secondsOf(few!, rates));
    expect(many!.passTokens).toBeGreaterThanOrEqual(few!.passTokens);
  });

  it("needs less than 8 GiB for a layer of Qwen3-30B-A3B", () => {
    expect(of(large).workingBytes).toBeLessThan(8 * 2 ** 30);
  });
});

it("options count: optimiser steps, alignment, factored output alone does not", () => {
  const seconds = (more: object) => secondsOf(methodCost(compressOptions.parse(more), large, text), rates);
  const steps = (count: number) => seconds({ method: "mobe", options: { steps: count } });
  expect((steps(2000) - steps(1000)) / (steps(1000) - steps(500))).toBeCloseTo(2, 6);
  expect(seconds({ method: "m-smoe", options: { alignment: "weights" } })).toBeGreaterThan(
    seconds({ method: "m-smoe" }),
  );
  expect(seconds({ method: "svd", options: { output: "factored" } })).toBe(seconds({ method: "svd" }));
  expect(seconds({ method: "svd", keep: 1 })).toBeLessThan(seconds({ method: "svd", keep: 0.5 }));
});

it("HC-SMoE holds half of a group's Gram matrix, and two blocks of it", () => {
  const { workingBytes } = methodCost(compressOptions.parse({ method: "hc-smoe", keep: 0.625 }), large, text);
  // 48 of 128 experts leave; groups of up to 16 are zipped: 16 * 768 units, at most 49 experts and two more.
  expect(workingBytes).toBe(51 * 3 * 2048 * 768 * 4 + 4 * (16 * 768) ** 2 + 8 * 768 ** 2);
});

it("merging compares its layer twice where the dominant experts can stand alone: with the merged ones, and with those", () => {
  const products = (keep: number, options: object, description = large) =>
    methodCost(compressOptions.parse({ method: "m-smoe", keep, options }), description, text).float32;
  const comparison = 2 * 8 * 8192 * 2 * 3 * 2048 * 768;
  expect(products(0.5, { alignment: "activations" }) - products(0.5, { alignment: "weights" })).toBeCloseTo(
    2 * comparison + 64 * 512 * 2 * 3 * 2048 * 768,
  );
  expect(products(0.5, {})).toBe(0);
});

it("iterations on weighted matrices are counted by their rounds", () => {
  for (const method of compressionMethods) {
    const { subspace } = methodCost(compressOptions.parse({ method }), large, text);
    expect(subspace > 0, method).toBe(iteratesSubspaces(method));
  }
  const subspaceOf = (method: "svd" | "svd-llm" | "d2-moe", keep = 0.625) =>
    methodCost(compressOptions.parse({ method, keep }), large, text).subspace;
  expect(subspaceOf("svd")).toBe(0);
  // 128 experts, three projections, a start and 16 rounds of block 349 + 16 on 768 x 768: the image, its projection, two times two.
  const round = 2 * 365 * 768 ** 2 + (2 + 2 * 4) * 365 ** 2 * 768;
  expect(subspaceOf("svd-llm") / (128 * 3 * 17 * round)).toBeCloseTo(1, 2);
  // A base for all leaves a little less for each expert.
  expect(subspaceOf("d2-moe") / subspaceOf("svd-llm")).toBeGreaterThan(0.9);
  expect(subspaceOf("d2-moe")).toBeLessThan(subspaceOf("svd-llm"));
});

it("rates are measured, and the pre-flight says them with what they stand for", async () => {
  const compute = await measureComputeRates(runtime, true);
  for (const rate of Object.values(compute)) expect(rate).toBeGreaterThan(1e7);
  const recipe = recipeSchema.parse({
    ...{ schemaVersion: 1, teacher: "t", data: { calibration: "c", ...text }, output: "o" },
    compress: { method: "svd-llm" },
  });
  const perToken = { secondsPerChunk: 0, secondsPerToken: 1e-3 };
  const probe = {
    ...{ forward: perToken, observed: perToken, update: perToken, headTokensPerSecond: 1e3 },
    ...{
      headUpdateTokensPerSecond: 1e3,
      compileForwardSeconds: 0,
      compileObservedSeconds: 0,
      compileUpdateSeconds: 0,
      disk: { readBytesPerSecond: 1e9, writeBytesPerSecond: 1e9, bufferBytesPerSecond: 1e15 },
    },
    ...{ assumption: "made up", compute },
  };
  const input = { recipe, teacher: large, memoryBudgetBytes: 8e9, bytesBefore: 1e9, bytesAfter: 1e9, cacheBytes: 1e12 };
  const compress = (measured: typeof probe | null) =>
    estimateStages({ ...input, probe: measured }).find(({ stage }) => stage === "compress")!;
  const known = compress(probe);
  const own = secondsOf(methodCost(recipe.compress!, large, recipe.data), compute);
  expect(own).toBeGreaterThan(1);
  // Its own work, one pass, and the bytes twice.
  expect(known.seconds).toBeCloseTo(own + 32 * 512 * 1e-3 + 2, 3);
  expect(known.assumption).toMatch(
    /svd-llm: .* T operations in products .* measured\), .* in plain code .* 16384 tokens forward; staged/,
  );
  expect(compress(null).seconds).toBe(0);
});
