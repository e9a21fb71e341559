import path from "node:path";
import { describe, expect, it } from "vitest";
import { collect, type MethodContext } from "../../../src/engine/compression/methodContext";
import { LayerEngine } from "../../../src/engine/compression/layer/layerEngine";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { overDomains } from "../../../src/engine/routing/layerStatistics";
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
  scratch,
  openModel,
  runtime,
  withExperts,
} from "./support";

const { folder, fresh } = scratch();
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

describe("MoNE", () => {
  it("novices add their mean output, weighted; kept experts and the router are untouched", async () => {
    const model = await golden("qwen3_moe");
    const context = await makeContext(model, fresh(), { method: "mone", keep: 5 });
    const plan = (await makePlan(context)) as PruningPlan;
    const student = await compress(context, plan, fresh());
    const { moe } = moeLayers(student.description)[0]!;
    const { kept } = plan.layers["0"]!;
    expect(kept.length).toBe(5);
    expect(moe.experts.map(({ constant }, e) => (constant ? -1 : e)).filter((e) => e >= 0)).toEqual(kept);
    expect(student.checkpoint.config["reroute_constant_experts"]).toHaveLength(3);
    // Independent of the graph: the same mean outputs put in by hand.
    const engine = new LayerEngine(runtime, student.checkpoint, student.description.hiddenSize);
    const novice = moe.experts.findIndex(({ constant }) => constant);
    const x = Float32Array.from({ length: 3 * student.description.hiddenSize }, (_, i) => Math.sin(i));
    const output = await engine.expertOutput(moe, novice, x, null);
    await engine.close();
    const statistics = context.statistics!.layers[0]!;
    const n = overDomains(statistics, "frequency")[novice]!;
    for (let i = 0; i < output.length; i++) {
      const mean = statistics.outputSum[novice * statistics.hiddenSize + (i % statistics.hiddenSize)]! / n;
      expect(Math.abs(output[i]! - mean)).toBeLessThan(0.005 * Math.abs(mean) + 1e-6);
    }
    expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBeLessThan(2);
  });
  it("KD gradients flow, and a checkpoint with novices can be opened and written again", async () => {
    const model = await golden("qwen3_moe");
    const context = await makeContext(model, fresh(), { method: "mone", keep: 5 });
    const plan = (await makePlan(context)) as PruningPlan;
    const student = await compress(context, plan, fresh());
    const probe = { teacher: model, batch: 1, positions: 8, runtime, scratchDirectory: folder };
    const result = await runForwardProbe({
      ...probe,
      model: student,
      inputIds: Int32Array.from({ length: 8 }, (_, i) => i * 7),
    });
    const gradient = result.get("kd_grad.0")!.data as Float32Array;
    expect(gradient.every(Number.isFinite) && gradient.some((g) => g !== 0)).toBe(true);
    const again = await makeContext(student, fresh(), { method: "mone", keep: 1 });
    const same = await compress(again, await makePlan(again), fresh());
    expect(difference(await logitsOf(same, folder), await logitsOf(student, folder))).toBe(0);
  });
  it("is refused for fused experts, before any work", async () => {
    const context = await makeContext(await golden("granitemoe"), fresh(), { method: "mone" });
    await expect(applyPlan(context, await makePlan(context))).rejects.toMatchObject({ code: "plan/invalid" });
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
