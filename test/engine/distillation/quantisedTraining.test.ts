import path from "node:path";
import { describe, expect, test } from "vitest";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { completeOutput } from "../../../src/engine/checkpoint/outputFolder";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { makePlan } from "../../../src/engine/compression/methods";
import { initAdamW, updateAdamW } from "../../../src/engine/distillation/adamW";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { RoundedRouters } from "../../../src/engine/distillation/quantisedTraining";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { liveWork } from "../../../src/engine/run/liveWork";
import type { OpenModel } from "../../../src/engine/run/work";
import { decodeFloats, encodeFloats } from "../../../src/engine/tensor/floatCodec";
import { roundedValues } from "../../../src/engine/weights/roundIntegers";
import { calibrateOptions, type CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { goldenCase } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";
import { compress, makeContext } from "../compression/support";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const none = { reroute: "0.0.0", recipe: null, seed: 42, versions: {}, metrics: {} };

/** A golden with its experts quantised. */
async function quantised(name: string, method: "rtn" | "fp8", options: CompressOptions): Promise<OpenModel> {
  const model = await openModel(goldenCase(name).checkpoint);
  const context = await makeContext(model, temporaryFolder(), { method, options }, null);
  const directory = path.join(temporaryFolder(), "student");
  await compress(context, await makePlan(context), directory);
  return openModel(directory);
}
type CompressOptions = Record<string, string | number>;

async function given(name: string, student: OpenModel, change: Partial<CalibrateOptions>) {
  const teacher = await openModel(goldenCase(name).checkpoint);
  const { vocabSize } = student.description;
  return {
    ...{ student, teacher, training: randomSequences(1, 12, 8, { vocabSize }) },
    heldOut: randomSequences(1, 6, 8, { vocabSize }),
    options: calibrateOptions.parse({ batch: 12, learningRate: 1e-3, evaluateEvery: 1, ...change }),
    ...{ seed: 42, runtime, stateDirectory: temporaryFolder(), onMetrics: () => undefined },
  };
}
type Given = Awaited<ReturnType<typeof given>>;

async function calibrated(of: Given) {
  const directory = path.join(temporaryFolder(), "calibrated");
  const result = await liveWork.calibrate({
    ...{ ...of, signal: new AbortController().signal, report: () => undefined },
    output: { directory, runId: "test", provenance: { schemaVersion: 1, plan: null, ...none } },
  });
  await completeOutput(directory);
  return { ...result, model: await openModel(directory) };
}

/** Loss and gradients of one batch by an executor in which `weights` train. */
async function openLoss({ student, teacher, training, options }: Given) {
  const directory = temporaryFolder();
  const targets = await TeacherTargets.prepare({
    ...{ teacher, sequences: training, runtime, directory, stage: "calibrate", routerLogits: null },
  });
  const weights = trainableWeights(student.description, options.scope);
  const trainable = new Set(weights.map(({ key }) => key));
  const executor = await ModelExecutor.open({
    ...{ ...student, sequenceLength: training.sequenceLength, runtime, scratchDirectory: directory, trainable },
    direction: "backward",
  });
  const source = { source: teacher, sharedHead: false };
  const head = new VocabularyHead({ ...student, trainable }, executor.sessions, 20, source, executor.trained);
  const batch = { sequences: training, numbers: [...Array(training.numSequences).keys()] };
  const loss = () =>
    lossAndGradients(executor, head, batch, { routerLogits: null, draws: [targets] }, options, undefined);
  return { executor, weights, loss };
}

describe("scope router+scales", () => {
  const forms: [name: string, method: "rtn" | "fp8", options: CompressOptions][] = [
    ["qwen3_moe", "rtn", { bits: 4, group: 8 }],
    ["qwen3_moe", "rtn", { bits: 2, group: 0 }],
    ["qwen2_moe", "rtn", { bits: 3, group: 8 }],
    ["qwen3_moe", "fp8", { format: "fp8" }],
  ];
  test.each(forms)("%s, %s %o: gradients of scales are those of finite differences", async (name, method, options) => {
    const student = await quantised(name, method, options);
    const of = await given(name, student, { scope: "router+scales" });
    const { executor, weights, loss } = await openLoss(of);
    const scales = weights.filter(({ isScale }) => isScale).map(({ key }) => key);
    expect(scales.length).toBe(moeLayers(student.description).reduce((sum, { moe }) => sum + 3 * moe.numExperts, 0));
    const { gradients } = await loss();
    // Along s sign(g), where the derivative is largest: the sum of |g s|.
    const slope = scales.reduce(
      (sum, key) =>
        sum + gradients.get(key)!.reduce((part, g, i) => part + Math.abs(g * executor.parameters.get(key)![i]!), 0),
      0,
    );
    const own = new Map(scales.map((key) => [key, executor.parameters.get(key)!]));
    const at = async (step: number) => {
      for (const [key, values] of own) {
        const g = gradients.get(key)!;
        executor.parameters.set(
          key,
          values.map((value, i) => value * (1 + step * Math.sign(g[i]!))),
        );
      }
      return (await loss()).loss;
    };
    const step = 2e-3;
    const difference = ((await at(step)) - (await at(-step))) / (2 * step);
    await executor.close();
    expect(slope).toBeGreaterThan(1e-4);
    expect(Math.abs(difference / slope - 1)).toBeLessThan(1e-2);
  });

  test("changes scales and routers, no code and nothing else, and lowers the held-out KL", async () => {
    const student = await quantised("qwen3_moe", "rtn", { bits: 3, group: 8 });
    const of = await given("qwen3_moe", student, { scope: "router+scales", epochs: 12, scaleLearningRate: 3e-4 });
    const { model, heldOutBefore, heldOutAfter } = await calibrated(of);
    const [before, after] = [await tensorDigests(student.checkpoint), await tensorDigests(model.checkpoint)];
    const changed = [...before.keys()].filter((key) => before.get(key) !== after.get(key));
    expect(changed.length).toBeGreaterThan(60);
    expect(changed.filter((tensor) => !/\.(weight_scale|gate\.weight)$/.test(tensor))).toEqual([]);
    expect(changed.some((tensor) => tensor.endsWith("gate.weight"))).toBe(true);
    expect(model.checkpoint.config).toEqual(student.checkpoint.config);
    expect(heldOutAfter! / heldOutBefore!).toBeLessThan(0.9);
  });

  test("scales stay positive under a learning rate that would turn them over", async () => {
    const student = await quantised("qwen3_moe", "rtn", { bits: 4, group: 8 });
    const of = await given("qwen3_moe", student, { scope: "router+scales", scaleLearningRate: 10, keepStep: "last" });
    const { model } = await calibrated(of);
    let floors = 0;
    for (const [name, entry] of model.checkpoint.tensors) {
      if (!name.endsWith("weight_scale")) continue;
      const [own, first] = [await readFloat32(entry), await readFloat32(student.checkpoint.tensors.get(name)!)];
      own.forEach((scale, i) => {
        expect(scale).toBeGreaterThan(0.99e-4 * first[i]!);
        if (scale < 1.01e-4 * first[i]!) floors++;
      });
    }
    expect(floors).toBeGreaterThan(100);
  });

  test("experts without scales in floats are refused by name", async () => {
    const { description } = await openModel(goldenCase("qwen3_moe").checkpoint);
    expect(() => trainableWeights(description, "router+scales")).toThrow(/stored as BF16.*Quantise it first/);
  });
});

describe("routers rounded in training", () => {
  test("worked by hand: four weights at 4 bits", () => {
    const grid = { bits: 4, group: 4, scaleType: "F32" } as const;
    const found = roundedValues([0.75, -1.5, 0.3, 0.5], 1, 4, grid);
    [0.8, -1.6, 0.4, 0.4].forEach((value, i) => expect(found[i]).toBeCloseTo(value, 6));
  });

  test.each([
    [4, 0],
    [8, 0],
    [6, 16],
  ] as const)(
    "%d bits, group %d: an update steps the numbers behind by the gradient at the rounded ones",
    async (routerBits, routerGroup) => {
      const student = await openModel(goldenCase("qwen3_moe").checkpoint);
      const of = await given("qwen3_moe", student, { routerBits, routerGroup, keepStep: "last", learningRate: 0.1 });
      const { model, heldOutBefore } = await calibrated({ ...of });
      const rounding = RoundedRouters.of(student.checkpoint, student.description, of.options)!;
      const { executor, loss } = await openLoss(of);
      const masters = new Map([...executor.parameters].map(([key, values]) => [key, values.slice()]));
      for (const [key, values] of rounding.rounded(masters)) executor.parameters.set(key, values);
      const { gradients, loss: kl } = await loss();
      await executor.close();
      updateAdamW(initAdamW(masters), masters, gradients, of.options.learningRate, 0);
      // The teacher itself is the student: all of the loss is what rounding costs.
      expect(kl).toBeGreaterThan(1e-7);
      expect(heldOutBefore).toBeGreaterThan(0);
      for (const [key, expected] of rounding.rounded(masters)) {
        const entry = model.checkpoint.tensors.get(key)!;
        const found = await readFloat32(entry);
        expect(decodeFloats(encodeFloats(expected, entry.dtype as "F32"), entry.dtype as "F32")).toEqual(found);
        const columns = entry.shape[1]!;
        const row = new Set(found.subarray(0, routerGroup || columns));
        expect(row.size).toBeLessThanOrEqual(2 ** routerBits);
      }
    },
  );
});
