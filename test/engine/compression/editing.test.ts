import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { lowRank, denseOf } from "../../../src/engine/compression/editing/lowRank";
import { sketchPositions } from "../../../src/engine/compression/editing/tucker";
import {
  defaultBases,
  deltaRank,
  mobeRank,
  svdRank,
  tuckerInputRank,
  tuckerParameters,
} from "../../../src/engine/compression/editing/ranks";
import { matrix, randomMatrix, squaredNorm, subtract, type Matrix } from "../../../src/engine/linalg/matrix";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { EditingPlan } from "../../../src/protocol/plan";
import type { CompressOptions } from "../../../src/protocol/recipe";
import { daily } from "../../support/nightly";
import authorsMobe from "../../fixtures/authors/mobe.json";
import {
  compress,
  difference,
  goldens,
  logitsOf,
  makeContext,
  scratch,
  openModel,
  runtime,
  type OpenModel,
} from "./support";

const { folder, fresh } = scratch();
const products = new MatrixProducts(runtime);
afterAll(() => products.close());
const golden = (family: string) => openModel(path.join(goldens, family, "checkpoint"));

it.each(Object.entries(authorsMobe.errors))(
  "MoBE after %s steps from its authors' start has the error that PyTorch has",
  async (steps, expected) => {
    const { layer, bases, rank } = authorsMobe;
    const model = await openModel(path.join(__dirname, "../../../media/sample/checkpoint"));
    const ranks = (gateProj: number) => ({ ranks: { gateProj, upProj: 0, downProj: 0, "gateProj.bases": bases } });
    const plan: EditingPlan = {
      schemaVersion: 1,
      paradigm: "editing",
      method: "mobe",
      output: "dense",
      options: { steps: Number(steps), activation: "tanh" },
      layers: Object.fromEntries(
        moeLayers(model.description).map((l) => [l.layer, ranks(l.layer === layer ? rank : 0)]),
      ),
    };
    const layers = await applyPlan(await makeContext(model, fresh(), { method: "mobe" }, null), plan);
    const error = layers!.get(layer)!.metrics["reconstructionError.gateProj"]!;
    // The same subspaces: how a basis is rotated in its own changes what tanh makes of it, by less than this.
    expect(Math.abs(error - expected) / expected).toBeLessThan(1e-2);
  },
);

describe("the sample of entries that stands for an expert in inner products", () => {
  it("takes every column where a regular stride would take every second, the same for the same seed", () => {
    const [rows, width] = [64, 32];
    const positions = sketchPositions(rows * width, (rows * width) / 2, 42);
    expect(new Set(positions).size).toBe((rows * width) / 2);
    expect(new Set([...positions].map((at) => at % width)).size).toBe(width);
    expect(sketchPositions(rows * width, (rows * width) / 2, 42)).toEqual(positions);
    expect(sketchPositions(rows * width, (rows * width) / 2, 43)).not.toEqual(positions);
  });
  it("is all of them where they fit", () => {
    expect([...sketchPositions(4, 4, 42)]).toEqual([0, 1, 2, 3]);
  });
});

describe("rank formulas meet the budget to within one rank", () => {
  const shapes: [number, number, number][] = [
    [8, 24, 32],
    [32, 48, 128],
    [128, 768, 2048],
    [8, 14336, 4096],
  ];
  it.each(shapes)("%i experts of %i x %i", (K, m, n) => {
    for (const keep of [0.4, 0.5, 0.625, 0.8, 0.95]) {
      const budget = keep * K * m * n;
      const within = (stored: (rank: number) => number, rank: number, target = budget) => {
        expect(stored(rank)).toBeLessThanOrEqual(target);
        expect(stored(rank + 1)).toBeGreaterThan(target);
      };
      within((r) => r * (m + n), svdRank(keep, m, n), keep * m * n);
      const bases = defaultBases(K);
      const mobe = mobeRank(keep, K, m, n, bases)!;
      if (mobe < n) within((r) => 2 * (K * m * r + bases * r * n) + K * m * n, mobe, 3 * budget);
      const delta = deltaRank(keep, K, m, n)!;
      within((r) => m * n + K * r * (m + n), delta);
      // Few wide experts: all output directions alone may exceed the budget, which is said instead.
      const inputs = tuckerInputRank(keep, K, m, n, K, m);
      if (inputs === null) expect(tuckerParameters(K, m, n, K, m, 1)).toBeGreaterThan(budget);
      else if (inputs < n) within((r) => tuckerParameters(K, m, n, K, m, r), inputs);
    }
  });
  it("are the paper's for MoBE: 768 for Qwen3-30B and 1672 for Mixtral", () => {
    expect(mobeRank(0.625, 128, 768, 2048, 8)).toBe(768);
    expect(Math.abs(mobeRank(0.625, 8, 14336, 4096, 2)! - 1672)).toBeLessThanOrEqual(1);
    expect([defaultBases(128), defaultBases(8)]).toEqual([8, 2]);
  });
});

describe("low rank weighted by activations", () => {
  const error = async (w: Matrix, approximated: Matrix, x: Matrix) =>
    squaredNorm(await products.multiply(subtract(w, approximated), x, false, true));
  it.each([
    [20, 30],
    [30, 20],
    [40, 40],
  ])("%i x %i beats plain SVD on its inputs, and random directions", async (m, n) => {
    const w = randomMatrix(m, n, 1);
    const spread = randomMatrix(200, n, 2);
    const x = matrix(
      200,
      n,
      spread.data.map((v, i) => v * 0.7 ** (i % n)),
    );
    const gram = await products.gramOfColumns(x);
    const weighted = await denseOf(products, await lowRank(products, w, 6, gram));
    const plain = await denseOf(products, await lowRank(products, w, 6, null));
    expect(await error(w, weighted, x)).toBeLessThan(0.8 * (await error(w, plain, x)));
    expect(squaredNorm(subtract(w, plain))).toBeLessThan(squaredNorm(subtract(w, weighted)));
  });
  it("a singular Gram matrix and a zero one", async () => {
    const w = randomMatrix(10, 12, 1);
    const x = randomMatrix(3, 12, 2);
    const exact = await denseOf(products, await lowRank(products, w, 3, await products.gramOfColumns(x)));
    expect(await error(w, exact, x)).toBeLessThan(1e-12);
    const zero = await denseOf(products, await lowRank(products, w, 5, matrix(12, 12)));
    expect(squaredNorm(zero)).toBeGreaterThan(0);
  });
});

const methods = ["svd", "svd-llm", "d2-moe", "td-moe", "mobe"] as const;

// Experts apart, fused, and fused with biases.
describe.each(daily(2, ["qwen3_moe", "gpt_oss", "granitemoe"]))("%s", (family) => {
  it.each(methods)("%s at keep 1 is the identity", async (method) => {
    const model = await golden(family);
    const context = await makeContext(model, fresh(), { method, keep: 1 });
    const student = await compress(context, await makePlan(context), fresh());
    expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBe(0);
  });
  it.each(["svd", "svd-llm", "d2-moe"] as const)("%s at full rank and above reproduces the logits", async (method) => {
    const model = await golden(family);
    const context = await makeContext(model, fresh(), { method });
    const plan = await withRanks(context, { gateProj: 1000, upProj: 24, downProj: 1000 });
    const layers = await applyPlan(context, plan);
    expect([...layers!.values()].flatMap(({ notes }) => notes).join("\n")).toMatch(/above the matrix's/);
    const student = await compress(context, plan, fresh());
    expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBeLessThan(1e-5);
  });
  it("td-moe at full ranks reproduces the logits up to the stored dtype", async () => {
    const model = await golden(family);
    const context = await makeContext(model, fresh(), { method: "td-moe" });
    const ranks: Record<string, number> = {};
    for (const projection of ["gateProj", "upProj", "downProj"]) {
      ranks[`${projection}.experts`] = moeLayers(model.description)[0]!.moe.numExperts;
      ranks[`${projection}.outputs`] = 1000;
      ranks[`${projection}.inputs`] = 1000;
    }
    const student = await compress(context, await withRanks(context, ranks), fresh());
    expect(difference(await logitsOf(student, folder), await logitsOf(model, folder))).toBeLessThan(1e-5);
  });

  async function withRanks(context: Awaited<ReturnType<typeof makeContext>>, ranks: Record<string, number>) {
    const layers = moeLayers(context.description).map(({ layer }) => [String(layer), { ranks }] as const);
    const { method } = context.options;
    return {
      schemaVersion: 1,
      paradigm: "editing",
      method,
      output: "dense",
      layers: Object.fromEntries(layers),
    } as EditingPlan;
  }
});

describe("methods end to end on a tiny model", () => {
  async function run(model: OpenModel, options: Partial<CompressOptions>) {
    const context = await makeContext(model, fresh(), { keep: 0.6, ...options });
    const plan = await makePlan(context);
    const layers = [...(await applyPlan(context, plan))!.values()];
    const mean = (name: string) => layers.reduce((sum, { metrics }) => sum + metrics[name]! / layers.length, 0);
    return { plan, outputError: mean("outputError"), gate: mean("reconstructionError.gateProj") };
  }
  it.each(methods)("%s: errors between 0 and 1, recorded by layer", async (method) => {
    const options = method === "mobe" ? { steps: 150 } : {};
    const { outputError, gate } = await run(await golden("qwen3_moe"), { method, options });
    for (const error of [outputError, gate]) {
      expect(error).toBeGreaterThan(0);
      expect(error).toBeLessThan(1);
    }
  });
  it.each(methods)(
    "%s: factored output runs, matches dense output, and is smaller by what the ranks say",
    async (method) => {
      const model = await golden("qwen3_moe");
      const options = method === "mobe" ? { steps: 20 } : {};
      const make = async (output: "dense" | "factored") => {
        const context = await makeContext(model, fresh(), { method, keep: 0.5, options: { ...options, output } });
        const plan = await makePlan(context);
        return { plan, student: await compress(context, plan, fresh()) };
      };
      const dense = await make("dense");
      const { student } = await make("factored");
      // Both round to bfloat16, one the factors, the other their product.
      const off = difference(await logitsOf(student, folder), await logitsOf(dense.student, folder));
      expect(off).toBeLessThan(0.03);
      const experts = ({ checkpoint }: OpenModel) =>
        [...checkpoint.tensors.values()]
          .filter(({ name }) => name.includes(".experts."))
          .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
      const share = experts(student) / experts(model);
      expect(share).toBeLessThanOrEqual(0.5 * 1.02);
      expect(share).toBeGreaterThan(0.4);
    },
  );
  it("factored output of fused experts is refused by name", async () => {
    const context = await makeContext(await golden("granitemoe"), fresh(), {
      method: "svd",
      options: { output: "factored" },
    });
    await expect(applyPlan(context, await makePlan(context))).rejects.toMatchObject({
      code: "model/unsupported-option",
    });
  });
  it("SVD-LLM beats SVD on the output and loses on the weights", async () => {
    const model = await golden("qwen3_moe");
    const [plain, weighted] = [
      await run(model, { method: "svd" }),
      await run(model, { method: "svd-llm", options: { gramMix: 0 } }),
    ];
    expect(weighted.outputError).toBeLessThan(plain.outputError);
    expect(plain.gate).toBeLessThanOrEqual(weighted.gate);
  });
  it("TD-MoE: whitening by the positive root beats the printed one on the output", async () => {
    const model = await golden("qwen3_moe");
    const positive = await run(model, { method: "td-moe" });
    const negative = await run(model, { method: "td-moe", options: { exponent: "negative" } });
    expect(positive.outputError).toBeLessThan(negative.outputError);
  });
  it("MoBE's optimisation lowers the error, and the best state is kept", async () => {
    const model = await golden("qwen3_moe");
    const errors = [];
    for (const steps of [0, 50, 200]) errors.push((await run(model, { method: "mobe", options: { steps } })).gate);
    expect(errors[1]).toBeLessThan(errors[0]!);
    expect(errors[2]).toBeLessThanOrEqual(errors[1]!);
    const wild = await run(model, { method: "mobe", options: { steps: 100, learningRate: 50 } });
    expect(wild.gate).toBeLessThanOrEqual(errors[0]! * 1.0001);
  });
  it("a rank of 1 still works, and a count is refused", async () => {
    const model = await golden("qwen3_moe");
    await run(model, { method: "svd", keep: 0.01 });
    await expect(run(model, { method: "svd", keep: 5 })).rejects.toThrow(/share up to 1/);
    await expect(run(model, { method: "mobe", keep: 0.3 })).rejects.toThrow(/leaves nothing for layer 0/);
    await expect(run(model, { method: "d2-moe", keep: 0.1 })).rejects.toThrow(/shared base/);
    await expect(run(model, { method: "svd-llm", options: { rank: 3 } })).rejects.toThrow(/rank/);
  });
});
