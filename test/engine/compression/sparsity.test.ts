import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { makePlan } from "../../../src/engine/compression/methods";
import { readExpert, type ExpertMatrices } from "../../../src/engine/compression/layer/expertMatrices";
import { narrowed } from "../../../src/engine/compression/neurons/narrow";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { adaptiveShares } from "../../../src/engine/compression/sparsity/budgets";
import { maskByScore } from "../../../src/engine/compression/sparsity/masks";
import { inverseFactor, sparseGpt } from "../../../src/engine/compression/sparsity/sparseGpt";
import { matrix, randomMatrix, type Matrix } from "../../../src/engine/linalg/matrix";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { createRandom } from "../../../src/engine/tensor/random";
import type { CompressOptions } from "../../../src/protocol/recipe";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import { writeFused } from "../../support/otherLayouts";
import {
  compress,
  goldens,
  makeContext,
  openModel,
  randomSequences,
  runtime,
  scratch,
  type OpenModel,
} from "./support";

const products = new MatrixProducts(runtime);
afterAll(() => products.close());
const seeds = Array.from({ length: 100 }, (_, seed) => seed);

describe("masks by score", () => {
  const masked = (weights: number[], request: Partial<Parameters<typeof maskByScore>[1]>): number[] => {
    const values = Float32Array.from(weights);
    maskByScore(values, { columns: 2, keep: 0.5, pattern: "unstructured", compare: "row", norms: null, ...request });
    return [...values];
  };

  it.each<[string, number[], Partial<Parameters<typeof maskByScore>[1]>, number[]]>([
    ["Wanda: the second column of norms (4, 1) goes", [1, -2, 3, 0.5], { norms: Float64Array.of(4, 1) }, [1, 0, 3, 0]],
    ["magnitude takes 1 and .5 by rows", [1, -2, 3, 0.5], {}, [0, -2, 3, 0]],
    ["and in the whole matrix", [1, -2, 3, 0.5], { compare: "matrix" }, [0, -2, 3, 0]],
    ["a matrix may lose a row", [1, -2, 3, 4], { compare: "matrix" }, [0, 0, 3, 4]],
    ["of equal scores the first go", [1, 1, 1, 1], { columns: 4 }, [0, 0, 1, 1]],
    ["of equal scores in a run of 4 the last go", [1, 1, 1, 1], { columns: 4, pattern: "2:4" }, [1, 1, 0, 0]],
    ["the whole part of the share leaves", [1, 2, 3], { columns: 3, keep: 0.5 }, [0, 2, 3]],
    [
      "a tenth of ten is one",
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
      { columns: 10, keep: 0.9 },
      [0, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    ],
    ["keeping all is the identity", [1, 0, 3, 2], { keep: 1 }, [1, 0, 3, 2]],
  ])("%s", (_, weights, request, expected) => {
    expect(masked(weights, request)).toEqual(expected);
  });

  it("over seeds: exact counts, survivors keep their value, patterns in every run, equal norms are magnitude", () => {
    for (const seed of seeds) {
      const random = createRandom(seed);
      const [rows, columns] = [1 + random.below(5), 8 * (1 + random.below(4))];
      const weights = Float32Array.from({ length: rows * columns }, () => Math.round(random.normal() * 4) / 4 || 1);
      const norms = Float64Array.from({ length: columns }, () => Math.abs(random.normal()));
      const keep = random.uniform();
      const run = (request: Partial<Parameters<typeof maskByScore>[1]>) =>
        Float32Array.from(masked([...weights], { columns, keep, ...request }));
      const plain = run({ norms });
      for (let row = 0; row < rows; row++) {
        const part = plain.subarray(row * columns, (row + 1) * columns);
        expect(part.filter((w) => w === 0)).toHaveLength(Math.floor(columns * (1 - keep)));
      }
      expect(plain.every((w, i) => w === 0 || w === weights[i])).toBe(true);
      expect(run({ norms: norms.map(() => 3) })).toEqual(run({}));
      for (const [pattern, size] of [
        ["2:4", 4],
        ["4:8", 8],
      ] as const) {
        const result = run({ norms, pattern });
        for (let i = 0; i < result.length; i += size) {
          expect(result.subarray(i, i + size).filter((w) => w === 0)).toHaveLength(size / 2);
        }
      }
    }
  });
});

describe("adaptive shares", () => {
  it("OWL's map: D = (1, 3, 2), lambda .08, sparsity .7", () => {
    const shares = adaptiveShares([1, 3, 2], 0.3, 0.08);
    [0.22, 0.38, 0.3].forEach((share, i) => expect(shares[i]).toBeCloseTo(share, 12));
  });
  it("over seeds: the mean is met, shares stay in [0.05, 1], and no spread is uniform", () => {
    for (const seed of seeds) {
      const random = createRandom(seed);
      const n = 1 + random.below(9);
      const demand = Array.from({ length: n }, () => Math.exp(3 * random.normal()));
      const sizes = Array.from({ length: n }, () => 1 + random.below(5));
      const keep = 0.06 + 0.9 * random.uniform();
      const shares = adaptiveShares(demand, keep, 0.5 * random.uniform(), sizes);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      expect(shares.reduce((sum, share, i) => sum + share * sizes[i]!, 0) / total).toBeCloseTo(keep, 9);
      expect(Math.min(...shares)).toBeGreaterThanOrEqual(0.05 - 1e-12);
      expect(Math.max(...shares)).toBeLessThanOrEqual(1);
      expect(adaptiveShares(demand, keep, 0, sizes).every((share) => Math.abs(share - keep) < 1e-12)).toBe(true);
    }
  });
});

describe("SparseGPT", () => {
  const request = { keep: 0.5, pattern: "unstructured", damp: 1e-12, block: 128 } as const;
  /** tr(D H D^T) of the change D. */
  const lost = (before: Matrix, after: Matrix, { data: h }: Matrix): number => {
    let sum = 0;
    const { rows, columns: n } = before;
    for (let r = 0; r < rows; r++) {
      const d = before.data.subarray(r * n, (r + 1) * n).map((w, i) => w - after.data[r * n + i]!);
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) sum += d[i]! * h[i * n + j]! * d[j]!;
    }
    return sum;
  };
  const gramOf = (seed: number, n: number, samples = 3 * n) => products.gramOfColumns(randomMatrix(samples, n, seed));

  it("U^T U = H^-1, by hand", async () => {
    const { data } = await inverseFactor(products, matrix(2, 2, [1, 0.5, 0.5, 1]));
    [1.1547005, -0.5773503, 0, 1].forEach((value, i) => expect(data[i]).toBeCloseTo(value, 6));
  });
  it("w = (0.3, 1), H = [[1, .5], [.5, 1]]: (0, 1.15)", async () => {
    const weights = matrix(1, 2, [0.3, 1]);
    await sparseGpt(products, weights, matrix(2, 2, [1, 0.5, 0.5, 1]), request);
    expect(weights.data[0]).toBe(0);
    expect(weights.data[1]).toBeCloseTo(1.15, 9);
  });
  it("with H = I the weights that stay do not change", async () => {
    const before = randomMatrix(4, 24, 1);
    const after = matrix(4, 24, before.data);
    await sparseGpt(
      products,
      after,
      matrix(
        24,
        24,
        Array.from({ length: 576 }, (_, i) => (i % 25 === 0 ? 1 : 0)),
      ),
      request,
    );
    expect([...after.data].filter((w) => w === 0)).toHaveLength(48);
    after.data.forEach((w, i) => w !== 0 && expect(w).toBeCloseTo(before.data[i]!, 9));
  });
  it("over seeds and blocks: the share leaves, patterns hold, and less is lost than without updates", async () => {
    let [updated, plain] = [0, 0];
    for (let seed = 0; seed < 12; seed++) {
      const [rows, n] = [6, 32];
      // Few samples, so that inputs are correlated: of independent ones the columns behind can make up for little.
      const gram = await gramOf(seed, n, 40);
      const before = randomMatrix(rows, n, seed);
      for (const pattern of ["unstructured", "2:4"] as const) {
        const after = matrix(rows, n, before.data);
        await sparseGpt(products, after, gram, { ...request, pattern, damp: 0.01, block: 16 });
        expect([...after.data].filter((w) => w === 0)).toHaveLength((rows * n) / 2);
        if (pattern === "2:4") {
          for (let i = 0; i < rows * n; i += 4) {
            expect([...after.data.subarray(i, i + 4)].filter((w) => w === 0)).toHaveLength(2);
          }
        }
        const mask = before.data.map((w, i) => (after.data[i] === 0 ? 0 : w));
        updated += lost(before, after, gram);
        plain += lost(before, { ...before, data: mask }, gram);
      }
    }
    expect(updated).toBeLessThan(0.8 * plain);
  });
  it("inputs that never fire lose their weights", async () => {
    const weights = randomMatrix(2, 8, 3);
    const gram = await gramOf(3, 8);
    for (let i = 0; i < 8; i++) gram.data[i] = gram.data[8 * i] = 0;
    await sparseGpt(products, weights, gram, { ...request, damp: 0.01 });
    expect([weights.data[0], weights.data[8]]).toEqual([0, 0]);
  });
});

describe("on a model", () => {
  const { fresh } = scratch();
  let model: OpenModel;
  beforeAll(async () => {
    model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
  });
  type Options = Partial<CompressOptions>;
  const planOf = async (options: Options, on = model) => {
    const sequences = options.method === "magnitude" ? null : randomSequences(on);
    const context = await makeContext(on, fresh(), { keep: 0.5, ...options }, sequences);
    return { context, plan: await makePlan(context) };
  };
  const pruned = async (options: Options, on = model) => {
    const { context, plan } = await planOf(options, on);
    return compress(context, plan, fresh());
  };
  const expertsOf = (of: OpenModel): Promise<ExpertMatrices[]> =>
    Promise.all(
      moeLayers(of.description).flatMap(({ moe }) =>
        moe.experts.map((expert) => readExpert(of.checkpoint, expert, "x")),
      ),
    );
  const zeros = (values: Float32Array) => values.filter((w) => w === 0).length / values.length;

  it.each<[string, Options]>([
    ["magnitude", { method: "magnitude" }],
    ["magnitude in the whole matrix", { method: "magnitude", options: { compare: "matrix" } }],
    ["wanda", { method: "wanda" }],
    ["wanda 2:4", { method: "wanda", options: { pattern: "2:4" } }],
    ["moe-pruner", { method: "moe-pruner", options: { sequential: true } }],
    ["sparsegpt", { method: "sparsegpt" }],
    ["sparsegpt 4:8", { method: "sparsegpt", options: { pattern: "4:8" } }],
  ])("%s: half of every matrix, everything else as it was", async (_, options) => {
    const student = await pruned(options);
    for (const { gateProj, upProj, downProj } of await expertsOf(student)) {
      for (const values of [gateProj, upProj, downProj]) expect(zeros(values)).toBe(0.5);
    }
    expect([...student.checkpoint.tensors.keys()].sort()).toEqual([...model.checkpoint.tensors.keys()].sort());
    const { reroute_kept_zeros: kept, ...config } = student.checkpoint.config;
    expect(config).toEqual(model.checkpoint.config);
    expect(kept).toEqual({ experts: true });
    for (const entry of model.checkpoint.tensors.values()) {
      if (entry.name.includes(".experts.")) continue;
      expect(await readFloat32(student.checkpoint.tensors.get(entry.name)!)).toEqual(await readFloat32(entry));
    }
  });

  it("fused experts get the same zeros as separate ones", async () => {
    const fused = await writeFused("qwen3_moe", fresh());
    const options: Options = { method: "moe-pruner" };
    expect(await expertsOf(await pruned(options, fused))).toEqual(await expertsOf(await pruned(options)));
  });

  it.each(["outliers", "utilisation", "sensitivity"])(
    "adaptive=%s: shares differ at the same total",
    async (adaptive) => {
      const { plan } = await planOf({ method: "wanda", options: { adaptive, level: "expert" } });
      const shares = Object.values(plan.layers).flatMap((layer) => (layer as { keep: number[] }).keep);
      expect(shares.reduce((sum, share) => sum + share, 0) / shares.length).toBeCloseTo(0.5, 9);
      expect(new Set(shares).size).toBeGreaterThan(1);
      const { plan: byLayer } = await planOf({ method: "wanda", options: { adaptive, level: "layer" } });
      for (const layer of Object.values(byLayer.layers))
        expect(new Set((layer as { keep: number[] }).keep).size).toBe(1);
    },
  );

  it.each<[string, Options, string, RegExp]>([
    ["a count", { method: "wanda", keep: 3 }, "plan/invalid", /keeps every expert/],
    ["nothing left", { method: "magnitude", keep: 1e-10 }, "plan/invalid", /keeps none of the/],
    [
      "a pattern and another share",
      { method: "wanda", keep: 0.75, options: { pattern: "2:4" } },
      "plan/invalid",
      /keeps half/,
    ],
    [
      "a pattern with adaptive shares",
      { method: "wanda", options: { pattern: "2:4", adaptive: "outliers" } },
      "arguments/invalid",
      /cannot be adaptive/,
    ],
    ["an unknown option", { method: "magnitude", options: { damp: 1 } }, "arguments/invalid", /damp/],
  ])("refused: %s", async (_, options, code, message) => {
    await expect(planOf(options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as unknown });
  });

  it("a pattern needs a width that is its multiple", async () => {
    const layers = model.description.layers.map((layer) => {
      const { feedForward } = layer;
      if (feedForward.kind !== "moe") return layer;
      return { ...layer, feedForward: { ...feedForward, experts: feedForward.experts.map((e) => narrowed(e, 30)) } };
    });
    const odd = { ...model, description: { ...model.description, layers } };
    await expect(planOf({ method: "magnitude", options: { pattern: "2:4" } }, odd)).rejects.toMatchObject({
      code: "plan/invalid",
      message: expect.stringMatching(/30, no multiple of 4/) as unknown,
    });
  });

  it("zeros stay zero while experts train", async () => {
    const student = await pruned({ method: "magnitude" });
    const training = randomSequences(model, 2, 16);
    const { parameters } = await calibrate({
      ...{ student, teacher: model, training, heldOut: null, seed: 1, runtime, stateDirectory: fresh() },
      options: calibrateOptions.parse({ scope: "router+experts", learningRate: 1e-2, batch: 1, weightDecay: 0.1 }),
      onMetrics: () => undefined,
    });
    const [before] = await expertsOf(student);
    const { experts } = moeLayers(student.description)[0]!.moe;
    const { gateUp } = experts[0]!;
    const after = parameters.get(gateUp.kind === "separate" ? gateUp.gateProj.weight.tensor : "")!;
    expect(after.map((w) => (w === 0 ? 1 : 0))).toEqual(before!.gateProj.map((w) => (w === 0 ? 1 : 0)));
    expect(after).not.toEqual(before!.gateProj);
  });
});
