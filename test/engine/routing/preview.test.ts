import { describe, expect, test } from "vitest";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { PreviewCodes } from "../../../src/engine/execution/previewCodes";
import { planExecution } from "../../../src/engine/execution/memoryPlan";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { RoutedExperts } from "../../../src/engine/execution/routedExperts";
import { SessionCache } from "../../../src/engine/execution/sessionCache";
import type { LinearDescription } from "../../../src/engine/model/description";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { previewBytes, withPreviewProducts } from "../../../src/engine/model/previewProducts";
import { agreementOf, previewAgreement, rankCorrelation } from "../../../src/engine/routing/previewAgreement";
import { judgeRecipe } from "../../../src/engine/run/preflight/judgeRecipe";
import { createRandom } from "../../../src/engine/tensor/random";
import { recipeSchema } from "../../../src/protocol/recipe";
import { goldenCheckpoint } from "../../support/goldens";
import { halfToEven } from "../../support/interpreter";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

describe("products in 8-bit integers", () => {
  const [H, I, numExperts] = [32, 24, 8];
  const random = createRandom(6);
  const x = Float32Array.from({ length: 4 * H }, () => random.normal());
  // Two tokens at expert 0, two at expert 5.
  const firstRow = Int32Array.from({ length: numExperts + 1 }, (_, e) => (e === 0 ? 0 : e <= 5 ? 2 : 4));
  const chosen = { feedForwardInput: x, assignment: { tokenOfRow: Int32Array.of(0, 1, 2, 3), firstRow } };
  const rowWeights = Float32Array.of(1, 0.5, 0.25, 0.1);

  const openPreview = async () => withPreviewProducts(await openModel(goldenCheckpoint("qwen3_moe")));

  const folded = async () => {
    const executor = await ModelExecutor.open({
      ...{ ...(await openPreview()), sequenceLength: 4, runtime, scratchDirectory: temporaryFolder() },
      direction: "forward",
    });
    expect(executor.plan.codeBytes).toBe(0);
    const rows = await executor.expertRows(executor.options.description.layers[0]!, chosen, rowWeights);
    await executor.close();
    return rows;
  };

  test("are those of plain loops over rounded weights and rounded rows", async () => {
    const rows = await folded();
    const { checkpoint } = await openPreview();
    /** 256 steps from the smallest to the largest of all rows, 0 among them. */
    const roundRows = (values: number[][]) => {
      const all = values.flat();
      const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
      const size = (high - low) / 255;
      const zero = halfToEven(-low / size);
      return values.map((row) =>
        row.map((v) => size * (Math.min(255, Math.max(0, halfToEven(v / size) + zero)) - zero)),
      );
    };
    const productOf = async (e: number, name: string, outputs: number, values: number[][]) => {
      const stored = checkpoint.tensors.get(`model.layers.0.mlp.experts.${e}.${name}.weight`)!;
      const w = await readFloat32(stored);
      const inputs = values[0]!.length;
      const matrix = Array.from({ length: outputs }, (_, r) => {
        const row = [...w.subarray(r * inputs, (r + 1) * inputs)];
        const scale = Math.max(...row.map(Math.abs)) / 127;
        return row.map((v) => scale * halfToEven(v / scale));
      });
      return roundRows(values).map((read) => matrix.map((row) => row.reduce((sum, v, i) => sum + v * read[i]!, 0)));
    };
    for (const [first, e] of [
      [0, 0],
      [2, 5],
    ] as const) {
      const read = [first, first + 1].map((t) => [...x.subarray(t * H, (t + 1) * H)]);
      const [gate, up] = [await productOf(e, "gate_proj", I, read), await productOf(e, "up_proj", I, read)];
      const hidden = gate.map((row, t) =>
        row.map((g, i) => (g / (1 + Math.exp(-g))) * up[t]![i]! * rowWeights[first + t]!),
      );
      const expected = (await productOf(e, "down_proj", H, hidden)).flat();
      const largest = Math.max(...expected.map(Math.abs));
      expected.forEach((value, i) => expect(Math.abs(rows[first * H + i]! - value) / largest).toBeLessThan(1e-5));
    }
  });

  test("are the same bytes where codes are made once a pass and given", async () => {
    const { checkpoint, description } = await openPreview();
    const sessions = new SessionCache(runtime, { keepFloat32Weights: false, sessionBytes: 1e9 }, 7);
    const { moe } = moeLayers(description)[0]!;
    const context = {
      checkpoint,
      hiddenSize: H,
      trainable: new Set<string>(),
      codesAreGiven: true,
      expertsPerGraph: 4,
    };
    const plain = { index: 0, feedForwardMultiplier: 1, feedForwardOutputNorm: null };
    const found = await new RoutedExperts(context, sessions).rowsOf(plain, moe, chosen, {}, rowWeights);
    expect(Buffer.from(found.buffer)).toEqual(Buffer.from((await folded()).buffer));
    // Made for the layer at hand only, and once.
    const codes = new PreviewCodes(context, sessions);
    const [first, again] = [
      await codes.feeds(0, moe, { from: 0, to: 4 }),
      await codes.feeds(0, moe, { from: 0, to: 4 }),
    ];
    expect(again).toBe(first);
    await codes.feeds(1, moe, { from: 0, to: 4 });
    expect(await codes.feeds(0, moe, { from: 0, to: 4 })).not.toBe(first);
    await sessions.close();
  });

  test("are planned for: a layer's codes have room beside the working set, or the budget is refused", async () => {
    const { description } = await openPreview();
    // 8 experts of three matrices of 32 x 24, and a scale for each of 24 + 24 + 32 outputs.
    expect(previewBytes(description)).toBe(8 * (3 * 32 * 24 + 4 * (24 + 24 + 32)));
    const scaled = (factor: number) => {
      const wider = (linear: LinearDescription) => ({
        ...linear,
        weight: { ...linear.weight, shape: linear.weight.shape.map((size) => size * factor) },
      });
      const layers = description.layers.map((layer) => {
        const { feedForward } = layer;
        if (feedForward.kind !== "moe") return layer;
        const experts = feedForward.experts.map(({ gateUp, downProj }) => {
          if (gateUp.kind !== "separate") return expect.fail("qwen3_moe stores gate and up apart");
          const { gateProj, upProj } = gateUp;
          return { gateUp: { ...gateUp, gateProj: wider(gateProj), upProj: wider(upProj) }, downProj: wider(downProj) };
        });
        return { ...layer, feedForward: { ...feedForward, experts } };
      });
      return { ...description, layers };
    };
    expect(planExecution(scaled(50), 16, 1e9, "forward").codeBytes).toBe(8 * (3 * 32 * 24 * 2500 + 4 * 80 * 50));
    expect(() => planExecution(scaled(200), 16, 1e9, "forward")).toThrow(/a preview keeps one layer's experts/i);
  });
});

describe("what a preview is marked with", () => {
  test("agreement, worked by hand", () => {
    const selected = (...layers: number[][][]) =>
      new Map(layers.map((ids, layer) => [layer, { k: ids[0]!.length, ids: Int32Array.from(ids.flat()) }]));
    const scores = (...layers: number[][]) => new Map(layers.map((values, layer) => [layer, values]));
    const exact = {
      selected: selected(
        [
          [0, 1],
          [1, 2],
        ],
        [
          [0, 3],
          [2, 3],
        ],
      ),
      scores: scores([1, 2, 3, 4], [1, 2, 3, 4]),
    };
    const rounded = {
      selected: selected(
        [
          [0, 1],
          [1, 3],
        ],
        [
          [0, 3],
          [0, 1],
        ],
      ),
      scores: scores([1, 2, 3, 4], [1, 3, 2, 4]),
    };
    expect(agreementOf(exact, rounded, 1)).toEqual({
      ...{ sequences: 1, tokens: 2, topKOverlap: 5 / 8 },
      ...{ worstLayer: { layer: 1, topKOverlap: 0.5 }, reapRank: 0.8 },
    });
  });

  test("Spearman's rank correlation, ties sharing their mean rank", () => {
    expect(rankCorrelation([1, 2, 3], [30, 20, 10])).toBe(-1);
    // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3: 4.5 / sqrt(4.5 * 5).
    expect(rankCorrelation([1, 5, 5, 9], [1, 2, 3, 4])).toBeCloseTo(Math.sqrt(0.9), 12);
  });

  test("an exact pass and a preview of a tiny model select nearly the same", async () => {
    const model = await openModel(goldenCheckpoint("qwen3_moe"));
    const sequences = randomSequences(1, 12, 16, { vocabSize: model.description.vocabSize });
    const found = await previewAgreement({ ...model, sequences, runtime, scratchDirectory: temporaryFolder() });
    expect(found).toMatchObject({ sequences: 8, tokens: 128 });
    expect(found.topKOverlap).toBeGreaterThan(0.9);
    expect(found.topKOverlap).toBeLessThan(1);
    expect(found.worstLayer.topKOverlap).toBeLessThanOrEqual(found.topKOverlap);
  });

  test.each([
    ["calibrates", { calibrate: {}, compress: {} }],
    ["evaluates", { data: { calibration: "a.txt", evaluation: "b.txt" } }],
    ["measures a task", { data: { calibration: "a.txt", task: "t.jsonl" } }],
    ["has a student", { student: "s" }],
    ["has steps", { steps: [{ compress: {} }] }],
  ])("a recipe that %s is refused", (_, parts) => {
    const refusals: string[] = [];
    const recipe = {
      schemaVersion: 1,
      teacher: "t",
      output: "o",
      precision: "preview",
      data: { calibration: "a.txt" },
    };
    judgeRecipe(recipeSchema.parse({ ...recipe, ...parts }), (message) => refusals.push(message));
    expect(refusals.join()).toMatch(/precision preview/);
  });

  test("a recipe that profiles and compresses is not", () => {
    const refuse = (message: string) => expect.fail(message);
    const recipe = {
      schemaVersion: 1,
      teacher: "t",
      output: "o",
      precision: "preview",
      data: { calibration: "a.txt" },
    };
    judgeRecipe(recipeSchema.parse({ ...recipe, compress: {} }), refuse);
  });
});
