import path from "node:path";
import { describe, expect, it } from "vitest";
import { candidates, evolve } from "../../../src/engine/compression/budgets/evolution";
import { evolvedPlan } from "../../../src/engine/compression/budgets/evolvedCounts";
import { countsByRedundancy, countsByScore } from "../../../src/engine/compression/budgets/expertCounts";
import { plannedSize, checkpointSize } from "../../../src/engine/compression/plannedSize";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { createRandom } from "../../../src/engine/tensor/random";
import type { CompressOptions } from "../../../src/protocol/recipe";
import {
  compress,
  goldens,
  logitsOf,
  makeContext,
  meanOverlap,
  openModel,
  randomSequences,
  runtime,
  scratch,
  type OpenModel,
} from "./support";

const { folder, fresh } = scratch();

describe("experts of each layer", () => {
  it.each<[string, (number | null)[][], number, number[], number[]]>([
    // Shares: .1 .2 .7 and .3 .3 .4; leaving in order .1, .2, .3.
    [
      "the smallest shares leave",
      [
        [1, 2, 7],
        [30, 30, 40],
      ],
      4,
      [1, 1],
      [1, 3],
    ],
    [
      "no layer goes below top-k",
      [
        [1, 2, 7],
        [30, 30, 40],
      ],
      4,
      [2, 1],
      [2, 2],
    ],
    [
      "never routed experts first",
      [
        [null, 2, 8],
        [1, 1, 1],
      ],
      5,
      [1, 1],
      [2, 3],
    ],
  ])("by score: %s", (_, layers, total, least, expected) => {
    expect(countsByScore(layers, total, least)).toEqual(expected);
  });

  const alike = (E: number, value: number) => ({ numExperts: E, similarity: new Float64Array(E * E).fill(value) });
  it.each<[string, { numExperts: number; similarity: Float64Array }[], number, number, number[]]>([
    ["the more redundant layer pays", [alike(4, 0.9), alike(4, 0.1)], 6, 0.5, [2, 4]],
    ["until the entropy says wait", [alike(4, 0.9), alike(4, 0.1)], 6, 1e-3, [3, 3]],
    ["and the other pays at its least", [alike(3, 0.9), alike(3, 0.1)], 3, 0.9, [1, 2]],
  ])("by redundancy: %s", (_, layers, total, gamma, expected) => {
    expect(countsByRedundancy(layers, total, [1, 1], gamma)).toEqual(expected);
  });

  it("over seeds: totals are met and limits kept", () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = createRandom(seed);
      const [L, E, k] = [1 + random.below(4), 4 + random.below(5), 1 + random.below(2)];
      const total = L * (k + random.below(E - k + 1));
      const scores = Array.from({ length: L }, () => Array.from({ length: E }, () => random.uniform()));
      const similarities = scores.map((own) => ({
        numExperts: E,
        similarity: Float64Array.from({ length: E * E }, (_, i) => own[i % E]! * own[Math.floor(i / E)]!),
      }));
      const least = new Array<number>(L).fill(k);
      for (const counts of [
        countsByScore(scores, total, least),
        countsByRedundancy(similarities, total, least, 0.02),
      ]) {
        expect(counts.reduce((sum, n) => sum + n, 0)).toBe(total);
        expect(counts.every((count) => count >= k && count <= E)).toBe(true);
      }
    }
  });
});

describe("on a model", () => {
  const planOf = async (options: Partial<CompressOptions>) => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), { keep: 0.5, ...options }, randomSequences(model));
    return { model, context, plan: makePruningPlan({ ...context, weightScores: null }) };
  };

  it.each(["sensitivity", "grape"])("budget=%s is written, sized and read again", async (budget) => {
    const { model, context, plan } = await planOf({ options: { budget, gamma: 0.5 } });
    const counts = Object.values(plan.layers).map(({ kept }) => kept.length);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(4 * counts.length);
    if (plan.counts !== "by-layer") return;
    expect(plan.notes!.join("\n")).toMatch(/only Reroute loads/);
    const student = await compress(context, plan, fresh());
    expect(moeLayers(student.description).map(({ moe }) => moe.numExperts)).toEqual(counts);
    expect(checkpointSize(student.checkpoint)).toEqual(plannedSize(model, plan));
    expect((await logitsOf(student, folder)).every(Number.isFinite)).toBe(true);
  });

  it.each<[string, Partial<CompressOptions>, RegExp]>([
    ["an unknown budget", { options: { budget: "fair" } }, /uniform, sensitivity, grape/],
    ["gamma", { options: { budget: "grape", gamma: 2 } }, /between 0 and 1/],
    ["scores from nowhere", { method: "random", options: { budget: "grape" } }, /scores experts by their profile/],
  ])("refused: %s", async (_, options, message) => {
    await expect(planOf(options)).rejects.toMatchObject({
      code: "arguments/invalid",
      message: expect.stringMatching(message) as unknown,
    });
  });
});

describe("evolution of counts", () => {
  it("over seeds: sums and limits are kept, nothing is measured twice, and a small space's optimum is found", async () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = createRandom(seed);
      const [L, E, k] = [2 + random.below(2), 4, 1 + random.below(2)];
      const uniform = new Array<number>(L).fill(k + 1);
      const worth = Array.from({ length: L }, () => Array.from({ length: E + 1 }, () => random.normal()));
      const value = (counts: readonly number[]) => counts.reduce((sum, count, l) => sum + worth[l]![count]!, 0);
      const measured = new Set<string>();
      const found = await evolve({
        ...{ start: [uniform], population: 8, generations: 20, random, total: L * (k + 1) },
        ...{ least: new Array<number>(L).fill(k), most: new Array<number>(L).fill(E) },
        fitness: (counts) => {
          expect(measured.has(counts.join(" "))).toBe(false);
          measured.add(counts.join(" "));
          expect(counts.reduce((sum, n) => sum + n, 0)).toBe(L * (k + 1));
          expect(counts.every((count) => count >= k && count <= E)).toBe(true);
          return Promise.resolve(value(counts));
        },
      });
      const all = Array.from({ length: (E + 1) ** L }, (_, i) =>
        Array.from({ length: L }, (__, l) => Math.floor(i / (E + 1) ** l) % (E + 1)),
      ).filter((counts) => counts.every((n) => n >= k) && counts.reduce((a, b) => a + b, 0) === L * (k + 1));
      expect(found.fitness).toBe(Math.max(...all.map(value)));
      expect(found.measured).toBe(measured.size);
      expect(measured.size).toBeLessThanOrEqual(Math.min(all.length, candidates(8, 20)));
    }
  });

  it("where counts cost other things, totals are never exceeded, nothing that fits is left, and the optimum is found", async () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = createRandom(seed);
      // Three layers at one of four widths, as 2, 3, 4 and 8 bits, of experts of one or two sizes.
      const size = [1, 1 + random.below(2), 1];
      const cost = (layer: number, place: number) => size[layer]! * [2, 3, 4, 8][place]!;
      const total = [0, 1, 2].reduce((sum, layer) => sum + cost(layer, 2), 0);
      const spent = (places: readonly number[]) => places.reduce((sum, place, layer) => sum + cost(layer, place), 0);
      const isFull = (places: readonly number[]) =>
        spent(places) <= total &&
        places.every((place, l) => place === 3 || spent(places) - cost(l, place) + cost(l, place + 1) > total);
      const worth = size.map(() => Array.from({ length: 4 }, () => random.normal()));
      const value = (places: readonly number[]) => places.reduce((sum, place, l) => sum + worth[l]![place]!, 0);
      const found = await evolve({
        ...{ start: [[2, 2, 2]], population: 12, generations: 20, random },
        ...{ least: [0, 0, 0], most: [3, 3, 3], cost, total },
        fitness: (places) => {
          expect(isFull(places)).toBe(true);
          return Promise.resolve(value(places));
        },
      });
      const all = Array.from({ length: 64 }, (_, i) => [i % 4, Math.floor(i / 4) % 4, Math.floor(i / 16)]).filter(
        isFull,
      );
      expect(found.fitness).toBe(Math.max(...all.map(value)));
      expect(found.measured).toBe(all.length);
    }
  });

  it("budget=evoesap finds the budget that brute force over written students finds, and continues where it stopped", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const sequences = randomSequences(model, 2, 16);
    const options = { keep: 3, options: { budget: "evoesap", population: 40, generations: 3 } };
    const context = await makeContext(model, fresh(), options, sequences);
    const request = { ...context, weightScores: null };
    const plan = await evolvedPlan(context, request);
    const logits = async ({ checkpoint, description }: OpenModel) =>
      (
        await runForwardProbe({
          ...{ model: { checkpoint, description }, teacher: null, inputIds: sequences.ids },
          ...{ batch: 2, positions: 16, runtime, scratchDirectory: folder },
        })
      ).get("logits")!.data as Float32Array;
    const original = await logits(model);
    const layers = moeLayers(model.description).length;
    const brute: { counts: number[]; overlap: number }[] = [];
    for (let i = 0; i < 7 ** layers; i++) {
      const counts = Array.from({ length: layers }, (_, l) => 2 + (Math.floor(i / 7 ** l) % 7));
      if (counts.reduce((a, b) => a + b, 0) !== 3 * layers) continue;
      const student = await compress(context, makePruningPlan({ ...request, counts }), fresh());
      brute.push({ counts, overlap: meanOverlap(original, await logits(student), 2, 16) });
    }
    const best = brute.reduce((a, b) => (b.overlap > a.overlap ? b : a));
    expect(Object.values(plan.layers).map(({ kept }) => kept.length)).toEqual(best.counts);
    const found = /measured (\d+) budgets.* model ([\d.]+), ([\d.]+) with/.exec(plan.notes![0]!)!;
    expect(Number(found[1])).toBe(brute.length);
    expect(Number(found[2])).toBeCloseTo(best.overlap, 4);
    expect(Number(found[3])).toBeCloseTo(brute.find(({ counts }) => counts.every((n) => n === 3))!.overlap, 4);
    // Cancelled behind the second candidate, it ends with the same plan, and those two are not measured again.
    const again = await makeContext(model, fresh(), options, sequences);
    const stop = new AbortController();
    let steps = 0;
    const report = () => {
      if (++steps === 2) stop.abort();
    };
    await expect(evolvedPlan({ ...again, signal: stop.signal, report }, request)).rejects.toThrow();
    expect(await evolvedPlan(again, request)).toEqual(plan);
  });

  it("where limits to groups are dropped, candidates route as the written student does", async () => {
    const model = await openModel(path.join(goldens, "deepseek_v3/checkpoint"));
    const sequences = randomSequences(model, 2, 16);
    const options = { budget: "evoesap", population: 3, generations: 1, fitness: "loss" };
    const compressing = { keep: 0.5, groupLimits: "drop" as const, options };
    const context = await makeContext(model, fresh(), compressing, sequences);
    const plan = await evolvedPlan(context, { ...context, weightScores: null });
    const student = await compress(context, plan, fresh());
    const results = await runForwardProbe({
      ...{ model: student, teacher: null, inputIds: sequences.ids, batch: 2, positions: 16, runtime },
      scratchDirectory: folder,
    });
    const logits = results.get("logits")!.data as Float32Array;
    const V = model.description.vocabSize;
    let loss = 0;
    for (let t = 0; t < 32; t++) {
      if (t % 16 === 15) continue;
      const row = Array.from(logits.subarray(t * V, (t + 1) * V));
      const most = Math.max(...row);
      loss +=
        Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0)) + most - row[sequences.ids[t + 1]!]!;
    }
    const found = /-loss (-[\d.]+)/.exec(plan.notes![0]!)!;
    expect(-Number(found[1])).toBeCloseTo(loss / 30, 3);
  });

  it.each<[string, Partial<CompressOptions>, RegExp]>([
    ["a population of one", { options: { budget: "evoesap", population: 1 } }, /population .* at least 2/],
    ["an unknown fitness", { options: { budget: "evoesap", fitness: "luck" } }, /esp, kl, loss/],
    ["a multiple", { multipleOf: 2, options: { budget: "evoesap" } }, /multiple of 2/],
    ["group limits", { options: { budget: "evoesap" } }, /chooses among groups/],
  ])("refused: %s", async (_, options, message) => {
    const family = message.source.includes("groups") ? "deepseek_v3" : "qwen3_moe";
    const model = await openModel(path.join(goldens, family, "checkpoint"));
    const context = await makeContext(model, fresh(), { keep: 0.5, ...options }, randomSequences(model));
    await expect(evolvedPlan(context, { ...context, weightScores: null })).rejects.toMatchObject({
      code: "arguments/invalid",
      message: expect.stringMatching(message) as unknown,
    });
  });
});
