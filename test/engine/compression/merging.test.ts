import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { permuteUnits } from "../../../src/engine/compression/merging/align";
import { correlation, zipUnits } from "../../../src/engine/compression/merging/unitClusters";
import {
  dominantGroups,
  globalGroupCounts,
  hierarchicalGroups,
  pseudoPruningGroups,
} from "../../../src/engine/compression/merging/groups";
import { tokensJoined, tokensOfAny } from "../../../src/engine/compression/layer/layerEngine";
import { compressLayer } from "../../../src/engine/compression/layer/compressLayers";
import { lostToDropping, mergeMethod } from "../../../src/engine/compression/merging/applyMerging";
import { collect, type MethodContext } from "../../../src/engine/compression/methodContext";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import type { CollectedLayer } from "../../../src/engine/execution/collectLayers";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { layoutNeedsOf, layoutNeedsOfPlan, validateLayout } from "../../../src/engine/compression/plan/validateLayout";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import { expertFrequency } from "../../../src/engine/routing/layerStatistics";
import { similarityPanelOf } from "../../../src/engine/routing/panels";
import { profileSums } from "../../../src/engine/routing/profileSums";
import { meanOutputs } from "../../../src/engine/routing/similarity";
import { loadRoutingStatistics } from "../../../src/engine/routing/statisticsFile";
import { createRandom } from "../../../src/engine/tensor/random";
import type { MergingPlan } from "../../../src/protocol/plan";
import { compressOptions, type CompressOptions } from "../../../src/protocol/recipe";
import authorsGroups from "../../fixtures/authors/globalGroups.json";
import {
  compress,
  difference,
  goldens,
  logitsOf,
  makeContext,
  scratch,
  openModel,
  randomSequences,
  runtime,
  withExperts,
  type OpenModel,
} from "./support";
import { daily } from "../../support/nightly";

const { folder, fresh } = scratch();

/** A plan that merges `pairs` in every layer and leaves the rest alone. */
function planOf(model: OpenModel, sets: number[][], more: Partial<MergingPlan> = {}): MergingPlan {
  const layers = moeLayers(model.description).map(({ layer, moe }) => {
    const inSets = new Set(sets.flat());
    const all = [...sets, ...Array.from({ length: moe.numExperts }, (_, e) => [e]).filter(([e]) => !inSets.has(e!))];
    const groups = all.map((members) => ({
      members,
      weights: members.map(() => 1 / members.length),
      dominant: members[0]!,
    }));
    return [String(layer), { groups: groups.sort((a, b) => a.dominant - b.dominant) }] as const;
  });
  return {
    schemaVersion: 1,
    paradigm: "merging",
    method: "manual",
    alignment: "none",
    router: "map",
    layers: Object.fromEntries(layers),
    ...more,
  };
}

// Norms behind the experts, an own norm of the routed sum, and a layer's scalar.
it.each(["afmoe", "flex_olmo", "gemma4_text"])("%s: a sequential merge is refused before any work", async (family) => {
  const model = await openModel(path.join(goldens, family, "checkpoint"));
  const context = await makeContext(model, fresh(), {}, null);
  const message = new RegExp(`^Layer \\d of this ${family} checkpoint .* Use m-smoe or hc-smoe`);
  const refuses = (work: () => unknown) =>
    expect(work).toThrow(
      expect.objectContaining({
        code: "model/unsupported-option",
        message: expect.stringMatching(message) as string,
      }),
    );
  const plan = planOf(model, [[0, 1]], { options: { sequential: true } }); // prettier-ignore
  refuses(() => mergeMethod(context, plan, () => []));
  refuses(() => validateLayout(layoutNeedsOfPlan(plan), model.description));
  const recipe = compressOptions.parse({ method: "ream", keep: 0.5 });
  refuses(() => validateLayout(layoutNeedsOf(recipe), model.description));
  expect(() => validateLayout(layoutNeedsOfPlan(planOf(model, [[0, 1]])), model.description)).not.toThrow(); // prettier-ignore
});

/** Experts one by one, fused, and interleaved with biases; every rule on the first, what depends on the layout on all. */
describe.each(daily(2, ["qwen3_moe", "gpt_oss", "granitemoe"]))("%s", (family) => {
  const open = () => openModel(path.join(goldens, family, "checkpoint"));

  it.each(["fold", "map", "duplicate"] as const)(
    "groups of one with router %s give the teacher's logits",
    async (router) => {
      const model = await open();
      const context = await makeContext(model, fresh(), {}, null);
      const student = await compress(context, planOf(model, [], { router }), fresh());
      expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBe(0);
    },
  );

  /** Expert 1 is a copy of expert 0, its units reordered where asked for. */
  async function twins(permuted: boolean): Promise<OpenModel> {
    return withExperts(await open(), fresh(), async (_layer, expert, read) => {
      if (expert !== 1) return null;
      const original = await read(0);
      const order = Array.from({ length: original.intermediateSize }, (_, i) => i);
      const random = createRandom(11);
      for (let i = order.length - 1; permuted && i > 0; i--) {
        const j = random.below(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      return permuteUnits(original, order);
    });
  }
  const rows: [string, boolean, Partial<MergingPlan>, boolean][] = [
    ["two identical experts", false, {}, true],
    ["a permuted copy, aligned by weights", true, { alignment: "weights" }, true],
    ["a permuted copy, aligned by activations", true, { alignment: "activations" }, true],
    ["a permuted copy without alignment", true, {}, false],
    [
      "a permuted copy by least squares after alignment",
      true,
      { alignment: "weights", options: { merge: "least-squares" } },
      true,
    ],
    ["a permuted copy by fix-dominant", true, { options: { merge: "fix-dominant" } }, true],
    ["a permuted copy by ZipIt", true, { options: { merge: "zipit" } }, true],
    ["a permuted copy by ZipIt with summed columns", true, { options: { merge: "zipit", downColumns: "sum" } }, true],
  ];
  it.each(family === "qwen3_moe" ? rows : rows.slice(1, 2))("merging %s", async (_name, permuted, more, lossless) => {
    const model = await twins(permuted);
    const context = await makeContext(model, fresh(), {});
    const student = await compress(context, planOf(model, [[0, 1]], more), fresh());
    const off = difference(await logitsOf(student, folder), await logitsOf(model, folder));
    if (lossless) expect(off).toBeLessThan(more.options ? 2e-4 : 1e-5);
    else expect(off).toBeGreaterThan(1e-3);
  });
});

describe("a mapped router", () => {
  it.each(["qwen3_moe", "deepseek_v3"])(
    "%s: its profile is that of duplicated slots, by the expert",
    async (family) => {
      const model = await openModel(path.join(goldens, family, "checkpoint"));
      const context = await makeContext(model, fresh(), {});
      const sets = [
        [0, 1, 3],
        [2, 5],
      ];
      const profiled = async (router: "map" | "duplicate") => {
        const student = await compress(context, planOf(model, sets, { router }), fresh());
        const { statistics } = await makeContext(student, fresh(), {}, randomSequences(model));
        return { student, statistics: statistics! };
      };
      const mapped = await profiled("map");
      const duplicated = await profiled("duplicate");
      for (const [i, layer] of mapped.statistics.layers.entries()) {
        const slots = duplicated.statistics.layers[i]!;
        const { numRouterRows, numExperts, hiddenSize: H, expertOfRow } = layer;
        expect([numRouterRows, numExperts]).toEqual([slots.numExperts, slots.numExperts - 3]);
        expect(layer.frequency).toEqual(slots.frequency);
        const sums = new Float64Array(numExperts * H);
        const norms = new Float64Array(numExperts);
        for (const [row, expert] of expertOfRow!.entries()) {
          norms[expert]! += slots.outputNormSum[row]!;
          for (let h = 0; h < H; h++) sums[expert * H + h]! += slots.outputSum[row * H + h]!;
        }
        expect(difference(Float32Array.from(layer.outputSum), Float32Array.from(sums))).toBeLessThan(1e-5);
        expect(difference(Float32Array.from(layer.outputNormSum), Float32Array.from(slots.outputNormSum))).toBeLessThan(
          1e-5,
        );
        const used = expertFrequency(layer);
        meanOutputs(layer).forEach((mean, at) => expect(Number.isNaN(mean)).toBe(used[Math.floor(at / H)] === 0));
        expect(similarityPanelOf(mapped.statistics, { layer: layer.layer, metric: "output-cosine" })!.numExperts).toBe(
          numExperts,
        );
      }
      // What an interrupted profile saved is taken up again, in this student and in no other.
      const file = path.join(folder, `${family}-profile-state`);
      const resumed = (student: OpenModel) => {
        const sequences = randomSequences(model);
        const own = { checkpoint: student.checkpoint.directory, fingerprint: "f", sequences, renormalises: true };
        const statistics = new RoutingStatistics(own);
        statistics.restore(mapped.statistics.layers);
        return profileSums(file, statistics, student.description);
      };
      await resumed(mapped.student).save("key", { shard: 0, layers: 1 });
      const { restore } = (await resumed(mapped.student).load("key"))!;
      restore();
      expect((await loadRoutingStatistics(file)).layers).toEqual(mapped.statistics.layers);
      expect(await resumed(duplicated.student).load("key")).toBeNull();
    },
  );

  // With `duplicate` every slot holds the merged weights, so the same function is computed without any map.
  it.each(["qwen3_moe", "deepseek_v3"])(
    "%s: KD loss and router gradients equal those of duplicated slots",
    async (family) => {
      const model = await openModel(path.join(goldens, family, "checkpoint"));
      const context = await makeContext(model, fresh(), {});
      const results = [];
      for (const router of ["map", "duplicate"] as const) {
        const student = await compress(
          context,
          planOf(
            model,
            [
              [0, 1, 3],
              [2, 5],
            ],
            { router },
          ),
          fresh(),
        );
        const random = createRandom(3);
        const probe = { teacher: model, batch: 2, positions: 12, runtime, scratchDirectory: folder };
        const inputIds = Int32Array.from({ length: 24 }, () => random.below(model.description.vocabSize));
        results.push(await runForwardProbe({ ...probe, model: student, inputIds }));
      }
      const [mapped, duplicated] = results as [(typeof results)[0], (typeof results)[0]];
      const names = [...duplicated.keys()].filter((name) => name.startsWith("kd_"));
      expect(names.length).toBe(1 + moeLayers(model.description).length);
      for (const name of names) {
        const [a, b] = [mapped, duplicated].map((result) => result.get(name)!.data as Float32Array);
        expect(Math.max(...b!.map(Math.abs)), name).toBeGreaterThan(0);
        expect(difference(a!, b!), name).toBeLessThan(1e-4);
      }
    },
  );
});

describe("methods end to end on a tiny model", () => {
  const rows: [string, Partial<CompressOptions>, number][] = [
    ["m-smoe", {}, 5],
    ["m-smoe", { options: { router: "map", groups: "global" } }, 5],
    ["m-smoe", { options: { alignment: "weights", merge: "least-squares" } }, 5],
    ["m-smoe", { options: { router: "duplicate" } }, 8],
    ["hc-smoe", {}, 5],
    ["hc-smoe", { options: { merge: "average", router: "map" } }, 5],
    ["hc-smoe", { options: { merge: "fix-dominant", tokens: "joined", unitWeights: "even" } }, 5],
    ["hc-smoe", { options: { merge: "least-squares" } }, 5],
    ["ream", {}, 5],
    ["ream", { options: { groupSize: 2 } }, 5],
  ];
  it.each(rows)("%s %o", async (method, more, experts) => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const keep = 5;
    const options = { method: method as CompressOptions["method"], keep, ...more };
    const context = await makeContext(model, fresh(), options);
    const plan = (await makePlan(context)) as MergingPlan;
    expect(plan.method).toBe(method);
    const directory = fresh();
    const student = await compress(context, plan, directory);
    for (const { moe } of moeLayers(student.description)) {
      if (more.options?.["groups"] !== "global") expect(moe.experts.length).toBe(experts);
    }
    const off = difference(await logitsOf(student, folder), await logitsOf(model, folder));
    expect(off).toBeGreaterThan(0);
    expect(off).toBeLessThan(2);
    // The same plan again, without what the first attempt left: the same bytes.
    const again = await makeContext(model, fresh(), options);
    const second = fresh();
    await compress(again, JSON.parse(JSON.stringify(plan)) as MergingPlan, second);
    for (const name of await readdir(directory)) {
      expect((await readFile(path.join(second, name))).equals(await readFile(path.join(directory, name)))).toBe(true);
    }
  });

  it("HC-SMoE's tokens and unit weights as published are other merges than the default", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const results = [];
    for (const more of [{}, { tokens: "joined" }, { unitWeights: "even" }] as const) {
      const options = { merge: "fix-dominant", ...more };
      const context = await makeContext(model, fresh(), { method: "hc-smoe", keep: 4, options });
      const plan = (await makePlan(context)) as MergingPlan;
      for (const { groups } of Object.values(plan.layers)) {
        for (const { members, centre } of groups) expect(members).toContain(centre);
      }
      const layers = await applyPlan(context, plan);
      results.push([...layers!.values()].map(({ metrics }) => metrics["outputError"]!.toPrecision(6)).join());
    }
    expect(new Set(results).size).toBe(3);
  });

  it("the dominants' error is that of a merge to which no other member adds", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), {});
    const errors = [];
    for (const weights of [
      [1, 0],
      [0.5, 0.5],
    ]) {
      const plan = planOf(model, [[0, 1], [2, 5]], { router: "fold" }); // prettier-ignore
      for (const { groups } of Object.values(plan.layers)) {
        for (const group of groups) if (group.members.length === 2) group.weights = weights;
      }
      errors.push([...(await applyPlan(context, plan))!.values()].map(({ metrics }) => metrics));
    }
    const [alone, even] = errors as [Record<string, number>[], Record<string, number>[]];
    alone.forEach(({ outputError, dominantsError }, l) => {
      expect(outputError).toBeGreaterThan(0.01);
      expect(dominantsError).toBeCloseTo(outputError!, 6);
      expect(even[l]!["dominantsError"]).toBeCloseTo(outputError!, 6);
      expect(even[l]!["outputError"]).not.toBeCloseTo(outputError!, 3);
    });
  });

  it("REAM: later layers see what the merged ones give", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), { method: "ream", keep: 5 });
    const student = await compress(context, await makePlan(context), fresh());
    const errors = (await applyPlan(context, await makePlan(context)))!;
    const inputsOf = async (of: MethodContext, after?: (collected: CollectedLayer) => Promise<void>) => {
      const inputs: Float32Array[] = [];
      await collect(of, 4, async (collected) => {
        inputs.push(collected.inputs.read(0, collected.numTokens).slice());
        await after?.(collected);
      });
      return inputs;
    };
    const own = await inputsOf({ ...context, ...student });
    const unmerged = await inputsOf(context);
    const plan = (await makePlan(context)) as MergingPlan;
    const method = mergeMethod(context, plan, (layer) => plan.layers[String(layer)]!.groups);
    const products = new MatrixProducts(context.runtime);
    const seen = await inputsOf(context, async (collected) => {
      const { index } = collected.layer;
      await compressLayer(method, products, index, collected.moe, collected);
    });
    await products.close();
    expect(errors.size).toBe(3);
    for (const [layer, inputs] of own.entries()) {
      expect(difference(seen[layer]!, inputs)).toBeLessThan(1e-4);
      if (layer > 0) expect(difference(unmerged[layer]!, inputs)).toBeGreaterThan(1e-3);
    }
  });

  it("keeping every expert is the identity", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    for (const method of ["m-smoe", "hc-smoe", "ream"] as const) {
      const context = await makeContext(model, fresh(), { method, keep: 1 });
      const student = await compress(context, await makePlan(context), fresh());
      expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBe(0);
    }
  });

  // Not ZipIt: its joined units keep a tenth of their correlation, so the third copy of a unit finds no partner.
  it("all experts equal: any merge is lossless with a map", async () => {
    const base = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const model = await withExperts(base, fresh(), async (_layer, expert, read) => (expert === 0 ? null : read(0)));
    for (const [method, more] of [
      ["m-smoe", {}],
      ["hc-smoe", { merge: "fix-dominant" }],
      ["ream", {}],
    ] as const) {
      const context = await makeContext(model, fresh(), { method, keep: 3, options: { router: "map", ...more } });
      const student = await compress(context, await makePlan(context), fresh());
      expect(difference(await logitsOf(student, folder), await logitsOf(model, folder)), method).toBeLessThan(1e-4);
    }
  });

  it("never-routed experts are named, and weigh nothing", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), { method: "m-smoe", keep: 4 }, randomSequences(model, 1, 2));
    const plan = (await makePlan(context)) as MergingPlan;
    expect(plan.notes!.join("\n")).toMatch(/never routed by 2 calibration tokens .*weigh nothing/);
    await compress(context, plan, fresh());
  });
});

describe("refused", () => {
  const rows: [string, Partial<CompressOptions>, RegExp][] = [
    ["global groups with a folded router", { method: "m-smoe", options: { groups: "global" } }, /router=map/],
    ["an unknown option", { method: "hc-smoe", options: { linkage: "ward" } }, /linkage/],
    ["a wrong value", { method: "hc-smoe", options: { merge: "magic" } }, /merge/],
    ["fewer groups than top-k", { method: "hc-smoe", keep: 1 / 8 }, /leaves 1 of 8 experts/],
  ];
  it.each(rows)("%s", async (_name, options, message) => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), options);
    await expect(makePlan(context)).rejects.toThrow(message);
  });
  it("NaN activations name the layer", async () => {
    const base = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const model = await withExperts(base, fresh(), async (layer, expert, read) => {
      if (layer !== 0) return null;
      const original = await read(expert);
      return { ...original, downProj: original.downProj.map(() => NaN) };
    });
    const context = await makeContext(base, fresh(), { method: "hc-smoe" });
    await expect(makePlan({ ...context, ...model })).rejects.toMatchObject({ code: "checkpoint/not-finite" });
  });
});

describe("grouping", () => {
  it("dominants take the experts whose logits resemble theirs", () => {
    const similarity = Float64Array.of(1, 0.1, 0.9, 0.2, 0.1, 1, 0.3, 0.8, 0.9, 0.3, 1, 0, 0.2, 0.8, 0, 1);
    expect(dominantGroups([0, 1, 2, 3], 2, similarity, 4, [3, 5, 1, 0])).toEqual([
      { members: [0, 2], weights: [0.75, 0.25], dominant: 0 },
      { members: [1, 3], weights: [1, 0], dominant: 1 },
    ]);
  });
  it("clusters equal a brute-force average linkage on random representatives", () => {
    const random = createRandom(8);
    for (let trial = 0; trial < 10; trial++) {
      const [n, H] = [9, 4];
      const points = Float64Array.from({ length: n * H }, () => random.normal());
      const d = (a: number, b: number) =>
        Math.hypot(...Array.from({ length: H }, (_, h) => points[a * H + h]! - points[b * H + h]!));
      let clusters = Array.from({ length: n }, (_, i) => [i]);
      while (clusters.length > 4) {
        let best = [0, 1];
        let least = Infinity;
        for (let i = 0; i < clusters.length; i++) {
          for (let j = i + 1; j < clusters.length; j++) {
            const pairs = clusters[i]!.flatMap((a) => clusters[j]!.map((b) => d(a, b)));
            const mean = pairs.reduce((s, x) => s + x, 0) / pairs.length;
            if (mean < least) [least, best] = [mean, [i, j]];
          }
        }
        const [i, j] = best as [number, number];
        clusters = [...clusters.filter((_, c) => c !== i && c !== j), [...clusters[i]!, ...clusters[j]!]];
      }
      const expected = clusters.map((c) => [...c].sort((a, b) => a - b).join()).sort();
      const experts = Array.from({ length: n }, (_, i) => i);
      const groups = hierarchicalGroups(experts, 4, points, H, new Float64Array(n));
      expect(groups.map(({ members }) => members.join()).sort()).toEqual(expected);
    }
  });
  it("HC-SMoE: the most used member's router row stands for the cluster, the most central one's units stay in place", () => {
    const points = Float64Array.of(0, 1, 2.1, 50, 51);
    const groups = hierarchicalGroups([0, 1, 2, 3, 4], 2, points, 1, [3, 0, 7, 2, 2]);
    expect(groups).toEqual([
      { members: [0, 1, 2], weights: [0.3, 0, 0.7], dominant: 2, centre: 1 },
      { members: [3, 4], weights: [0.5, 0.5], dominant: 3, centre: 3 },
    ]);
  });
  it("a token routed to two members counts once in the union, twice where members are joined", () => {
    const byExpert = [Int32Array.of(0, 2), Int32Array.of(5), Int32Array.of(1, 2)];
    expect([...tokensOfAny(byExpert, [0, 2])]).toEqual([0, 1, 2]);
    expect([...tokensJoined(byExpert, [0, 2])]).toEqual([0, 2, 1, 2]);
  });
  it("one line says where merging loses to the dominants alone", () => {
    const stage = (outputError: number, dominantsError?: number) => ({
      tensors: new Map(),
      notes: [],
      metrics: { outputError, ...(dominantsError === undefined ? {} : { dominantsError }) },
    });
    expect(lostToDropping([stage(0.1, 0.2), stage(0.2, 0.2), stage(0.3)])).toEqual([]);
    const [line, ...more] = lostToDropping([stage(0.1, 0.2), stage(0.5, 0.1), stage(0.3)]);
    expect(more).toEqual([]);
    expect(line).toMatch(/^in 1 of 2 layers .* 0\.300 merged, 0\.150 alone/);
  });
  it("centroids absorb until they are full, most stay alone", () => {
    const distance = Float64Array.from({ length: 36 }, (_, at) => Math.abs(Math.floor(at / 6) - (at % 6)));
    const groups = pseudoPruningGroups([0, 1, 2, 3, 4, 5], 3, [6, 1, 1, 5, 1, 4], distance, 6, 3);
    expect(groups.map(({ members }) => members)).toEqual([[0, 1, 2], [3, 4], [5]]);
    expect(groups[0]!.weights).toEqual([0.75, 0.125, 0.125]);
    const small = pseudoPruningGroups([0, 1, 2, 3, 4, 5], 1, [6, 1, 1, 5, 1, 4], distance, 6, 3);
    expect(small.map(({ members }) => members)).toEqual([[0, 1, 2, 3, 4, 5]]);
  });
  const budgets: [string, number[][], number, number[]][] = [
    // Shares .30 .28 .22 .20 and .52 .38 .06 .04, the first of each counted as 1: above .22 lie two and two.
    ["the peaked layer keeps what its shares say", [[30, 28, 22, 20], [52, 38, 6, 4]], 4, [2, 2]], // prettier-ignore
    ["shares do not depend on a layer's tokens", [[300, 280, 220, 200], [52, 38, 6, 4]], 4, [2, 2]], // prettier-ignore
    ["ties at the threshold stay below it", [[4, 2, 2, 2], [6, 2, 1, 1]], 4, [1, 1]], // prettier-ignore
    ["a layer that no token reached has one group", [[0, 0, 0, 0], [5, 3, 1, 1]], 3, [1, 2]], // prettier-ignore
    ["as many groups as experts", [[1, 2], [3, 0]], 4, [2, 2]], // prettier-ignore
    ...authorsGroups.groups.map(({ model, average, counts }): (typeof budgets)[number] => [
      `the authors' code on ${model}, ${average} a layer`,
      authorsGroups.frequencies[model as "fine"],
      average * 6,
      counts,
    ]),
  ];
  it.each(budgets)("M-SMoE's global budget: %s", (_name, frequencies, total, counts) => {
    expect(globalGroupCounts(frequencies, total)).toEqual(counts);
  });
  it("M-SMoE's global budget in multiples: the nearest of each layer, a tie down, at least one and no more than there are", () => {
    // Shares above .20, the first of each layer counted as 1.
    const frequencies = [[30, 28, 22, 20], [52, 38, 6, 4], [97, 1, 1, 1], [31, 30, 29, 28]]; // prettier-ignore
    expect(globalGroupCounts(frequencies, 10)).toEqual([3, 2, 1, 4]);
    expect(globalGroupCounts(frequencies, 10, 2)).toEqual([2, 2, 2, 4]);
    expect(globalGroupCounts(frequencies, 10, 3)).toEqual([3, 3, 3, 3]);
    expect(globalGroupCounts([[30, 28, 22, 20, 1]], 5, 4)).toEqual([4]);
  });
  it("ZipIt joins the most correlated units, ties to the lower", () => {
    const similarity = () => [[1], [0, 1], [0.9, 0, 1], [0, 0.5, 0, 1]].map((row) => Float32Array.from(row));
    expect(zipUnits(similarity(), 3)).toEqual([[0, 2], [1], [3]]);
    expect(zipUnits(similarity(), 2)).toEqual([
      [0, 2],
      [1, 3],
    ]);
    expect(zipUnits(similarity(), 4)).toEqual([[0], [1], [2], [3]]);
  });
  it("ZipIt on a triangle joins what it joins on the whole matrix, pair by pair", () => {
    const random = createRandom(5);
    for (let trial = 0; trial < 20; trial++) {
      const [n, keep] = [24, 5 + random.below(12)];
      // Few different values, so that there are ties.
      const half = Array.from({ length: n }, (_, i) =>
        Float32Array.from({ length: i + 1 }, () => random.below(12) / 8),
      );
      const whole = Array.from({ length: n }, (_, i) =>
        Array.from({ length: n }, (_, j) => (i === j ? -Infinity : half[Math.max(i, j)]![Math.min(i, j)]!)),
      );
      const units = Array.from({ length: n }, (_, i) => ({ id: i, members: [i] }));
      while (units.length > keep) {
        let [low, high] = [0, 1];
        for (let i = 0; i < units.length; i++)
          for (let j = i + 1; j < units.length; j++)
            if (whole[units[i]!.id]![units[j]!.id]! > whole[units[low]!.id]![units[high]!.id]!) [low, high] = [i, j];
        const [a, b] = [units[low]!, units[high]!];
        a.members.push(...b.members);
        units.splice(high, 1);
        for (const { id } of units) {
          if (id === a.id) continue;
          whole[a.id]![id] = Math.fround(0.1 * Math.min(whole[a.id]![id]!, whole[b.id]![id]!));
          whole[id]![a.id] = whole[a.id]![id]!;
        }
      }
      const expected = units.map(({ members }) => members.sort((x, y) => x - y));
      expect(zipUnits(half, keep)).toEqual(expected);
    }
  });
  it("correlation of a triangle is Pearson's, 0 for a unit that does not vary, and takes the Gram matrix away", () => {
    const units = [[1, 2, 3, 4], [2, 1, 4, 3], [-1, -2, -3, -4], [5, 5, 5, 5]]; // prettier-ignore
    const gram = units.map((a, i) =>
      Float64Array.from({ length: i + 1 }, (_, j) => a.reduce((sum, value, t) => sum + value * units[j]![t]!, 0)),
    );
    const sums = Float64Array.from(units, (values) => values.reduce((sum, value) => sum + value, 0));
    const found = correlation(gram, sums, 4).map((row) => [...row].map((value) => Math.round(value * 1e6) / 1e6));
    expect(found).toEqual([[1], [0.6, 1], [-1, -0.6, 1], [0, 0, 0, 0]]);
    expect(gram.every((row) => row.length === 0)).toBe(true);
  });
});
