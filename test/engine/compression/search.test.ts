import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { collect, type MethodContext } from "../../../src/engine/compression/methodContext";
import { LayerEngine } from "../../../src/engine/compression/layer/layerEngine";
import { makePlan } from "../../../src/engine/compression/methods";
import { randomSet } from "../../../src/engine/compression/pruning/searchPlans";
import { outputTable, segmentErrors, sequenceError } from "../../../src/engine/compression/pruning/subsetError";
import { backwardSearch, exhaustiveSearch, numberOfSets } from "../../../src/engine/compression/pruning/subsetSearch";
import type { PruningPlan } from "../../../src/protocol/plan";
import {
  compress,
  difference,
  goldens,
  logitsOf,
  makeContext,
  makeFolder,
  openModel,
  runtime,
  withExperts,
} from "./support";

let folder = "";
let remove: () => Promise<void>;
beforeAll(async () => ({ folder, remove } = await makeFolder("search")));
afterAll(() => remove());
let next = 0;
const fresh = () => path.join(folder, `out-${next++}`);
const golden = (family: string) => openModel(path.join(goldens, family, "checkpoint"));

/** Errors of kept sets in each layer, as the methods see them. */
async function errorsOf(context: MethodContext, sets: (layer: number) => number[][]) {
  const found: { sequence: number[]; segment: number[] }[] = [];
  await collect(context, 32, async (collected) => {
    const engine = new LayerEngine(runtime, context.checkpoint, context.description.hiddenSize);
    const table = await outputTable(engine, collected, 2048, 42);
    const masks = sets(collected.layer.index).map((kept) =>
      Uint8Array.from({ length: collected.moe.numExperts }, (_, e) => (kept.includes(e) ? 1 : 0)),
    );
    found.push({
      sequence: masks.map((mask) => sequenceError(table, mask)),
      segment: masks.map((mask) => segmentErrors(table, mask, 16, 1)[0]!),
    });
    await engine.close();
  });
  return found;
}

describe("searches", () => {
  const random = (e: number) => Math.sin(e * 12.9898) * 3;
  const error = (kept: Uint8Array) => kept.reduce((sum, value, e) => sum + (value === 0 ? Math.abs(random(e)) : 0), 0);
  it("additive costs: all three find the optimum, and count what they tried", () => {
    const request = { numExperts: 9, count: 5, routingGroups: 1, error };
    const exact = exhaustiveSearch(request);
    expect(exact.evaluations).toBe(numberOfSets(9, 5));
    expect(exact.evaluations).toBe(126);
    for (const size of [9, 3, 1]) expect(backwardSearch(request, size).kept).toEqual(exact.kept);
    expect(backwardSearch(request, 3).evaluations).toBeLessThan(backwardSearch(request, 9).evaluations);
  });
  it("group limits are kept", () => {
    const { kept } = backwardSearch({ numExperts: 8, count: 4, routingGroups: 2, error }, 3);
    expect(kept.filter((e) => e < 4).length).toBe(2);
    expect(randomSet({ numExperts: 8, count: 4, routingGroups: 2 }, 1, 0).filter((e) => e < 4).length).toBe(2);
  });
  it("numbers of sets", () => {
    expect([numberOfSets(8, 6), numberOfSets(32, 20), numberOfSets(128, 80), numberOfSets(5, 5)]).toEqual([
      28,
      225792840,
      Infinity,
      1,
    ]);
  });
});

describe.each(["qwen3_moe", "deepseek_v3"])("%s", (family) => {
  const keep = family === "deepseek_v3" ? 0.5 : 5;
  it("NAEE tries all sets of a small layer: none has a smaller error; beyond its limit it says greedy", async () => {
    const model = await golden(family);
    const context = await makeContext(model, fresh(), { method: "naee", keep });
    const plan = (await makePlan(context)) as PruningPlan;
    const grouped = family === "deepseek_v3";
    expect(plan.notes!.join("\n")).toMatch(grouped ? /greedy/ : /all 56 sets tried/);
    const greedy = (await makePlan({
      ...context,
      options: { ...context.options, options: { maxSets: 3 } },
    })) as PruningPlan;
    expect(greedy.notes!.join("\n")).toMatch(/greedy, \d+ of \d+ sets/);
    const found = await errorsOf(context, (layer) => [
      plan.layers[layer]!.kept,
      greedy.layers[layer]!.kept,
      [0, 1, 2, 3, 4, 5, 6, 7],
    ]);
    for (const { sequence } of found) {
      expect(sequence[0]).toBeLessThanOrEqual(sequence[1]! * 1.000001);
      if (!grouped) expect(sequence[2]).toBe(0);
    }
    const student = await compress(context, plan, fresh());
    expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBeLessThan(2);
  });

  it("CFES is never worse than random on the error it minimises", async () => {
    const model = await golden(family);
    const context = await makeContext(model, fresh(), { method: "cfes", keep });
    const plan = (await makePlan(context)) as PruningPlan;
    const count = Object.values(plan.layers)[0]!.kept.length;
    const seeds = [0, 1, 2, 3, 42];
    const found = await errorsOf(context, (layer) => {
      const moe = model.description.layers[layer]!.feedForward;
      if (moe.kind !== "moe") throw new Error("no moe layer");
      const routingGroups = moe.routing.kind === "sparse-mixer" ? 1 : (moe.routing.groups?.numGroups ?? 1);
      const request = { numExperts: moe.numExperts, count, routingGroups };
      return [plan.layers[layer]!.kept, ...seeds.map((seed) => randomSet(request, seed, layer))];
    });
    for (const { segment } of found) expect(segment[0]).toBeLessThanOrEqual(Math.min(...segment.slice(1)) * 1.05);
    for (const { segment } of found) expect(segment[0]).toBeLessThanOrEqual(segment.at(-1)!);
  });
});

describe("edges", () => {
  it("keeping all is the identity; an expert that changes nothing leaves first", async () => {
    const base = await golden("qwen3_moe");
    const model = await withExperts(base, fresh(), async (_layer, expert, read) => {
      if (expert !== 6) return null;
      const original = await read(expert);
      return { ...original, downProj: original.downProj.map(() => 0) };
    });
    for (const method of ["cfes", "naee"] as const) {
      const all = await makeContext(model, fresh(), { method, keep: 1 });
      const student = await compress(all, await makePlan(all), fresh());
      expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBe(0);
    }
  });
});
