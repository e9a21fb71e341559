import { writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { LayerEngine } from "../../../src/engine/compression/layer/layerEngine";
import { measureDense, writeDense } from "../../../src/engine/distillation/build/buildDense";
import { predictedDense } from "../../../src/engine/distillation/build/predictedDense";
import { chooseDense } from "../../../src/engine/distillation/build/chooseDense";
import { expertMoments } from "../../../src/engine/distillation/build/expertMoments";
import { collectLayers } from "../../../src/engine/execution/collectLayers";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import type { ExpertWeights, MlpDescription, MoeDescription } from "../../../src/engine/model/description";
import { buildStudent, usualStudent } from "../../../src/engine/run/buildStudent";
import { checkpointSize } from "../../../src/engine/compression/plannedSize";
import { buildOptions } from "../../../src/protocol/denseStudent";
import { recipeSchema } from "../../../src/protocol/recipe";
import { decodeFloats, encodeFloats } from "../../../src/engine/tensor/floatCodec";
import { distillationGolden, goldenTokens, openTeacher, taughtFamilies } from "../../support/distillationGoldens";
import { goldenCheckpoint, relativeToLargest } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

test.each(taughtFamilies)("%s: moments, greedy choice, scales and residual are PyTorch's", async (family) => {
  const { checkpoint, description } = await openTeacher(family);
  const golden = await distillationGolden(family, "dense");
  const sequences = goldenTokens(golden);
  const scratchDirectory = temporaryFolder();
  await collectLayers({
    ...{ checkpoint, description, sequences, runtime, scratchDirectory },
    onLayer: async (collected) => {
      const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
      const moments = await expertMoments(engine, collected, Infinity);
      await engine.close();
      const of = (name: string) => golden.get(`${name}.${collected.layer.index}`)!.values;
      for (const name of ["gram", "cross"] as const)
        expect(relativeToLargest(moments[name], of(name)), name).toBeLessThan(2e-4);
      expect(moments.energy / of("energy")[0]!).toBeCloseTo(1, 3);
      const plan = chooseDense(moments, { count: 2, choose: "greedy", scales: "fitted", equal: 1 }, 0);
      expect(plan.experts).toEqual(of("chosen"));
      expect(relativeToLargest(plan.scales, of("scales"))).toBeLessThan(2e-4);
      expect(plan.residual / of("residual")[0]!).toBeCloseTo(1, 3);
      const equal = chooseDense(moments, { count: 2, choose: "frequency", scales: "equal", equal: 0.5 });
      expect(equal.scales).toEqual([0.5, 0.5]);
      const fitted = chooseDense(moments, { count: 2, choose: "frequency", scales: "fitted", equal: 0.5 });
      expect(fitted.experts).toEqual(equal.experts);
      expect(fitted.residual).toBeLessThan(equal.residual);
    },
  });
});

const siblings = [
  "mixtral",
  "qwen3_moe",
  "qwen2_moe",
  "granitemoe",
  "granitemoeshared",
  "hunyuan_v1_moe",
  "ernie4_5_moe",
];
const ownFamilies = ["deepseek_v2", "deepseek_v3", "dots1", "glm4_moe", "glm4_moe_lite", "mistral4"];

describe.each([...siblings, ...ownFamilies])("a student of %s", (family) => {
  test("is its dense sibling: experts side by side, down projections scaled, everything else as it was", async () => {
    const teacher = await openModel(goldenCheckpoint(family));
    const directory = path.join(temporaryFolder(), "student");
    const sequences = randomSequences(3, 3, 16);
    const build = buildOptions.parse({ experts: 3, maxTokens: 64 });
    const layers = await measureDense({ teacher, sequences, build, runtime, scratchDirectory: temporaryFolder() });
    const provenance = { reroute: "0", recipe: null, seed: 1, versions: {} };
    const { intermediateSize } = await writeDense({ teacher, layers, directory, provenance });
    const student = await openModel(directory);
    const foretold = predictedDense(teacher, build, directory);
    expect({ ...foretold.description, unusedTensors: [] }).toEqual({ ...student.description, unusedTensors: [] });
    expect(foretold.size).toEqual(checkpointSize(student.checkpoint));
    expect(student.description.unusedTensors).toEqual([]);
    const but = ({ layers: all, ...rest }: typeof student.description) => ({
      ...{ ...rest, family: "", unusedTensors: [] },
      layers: all.map((layer) => ({ ...layer, feedForward: null })),
    });
    expect(but(student.description)).toEqual(but(teacher.description));
    for (const [i, { feedForward }] of teacher.description.layers.entries()) {
      const mlp = student.description.layers[i]!.feedForward as MlpDescription;
      expect(mlp.intermediateSize).toBe(intermediateSize);
      const read = ({ tensor, offset, shape }: { tensor: string; offset: number; shape: readonly number[] }) => ({
        of: (model: typeof student) =>
          readFloat32(model.checkpoint.tensors.get(tensor)!, { offset, count: shape.reduce((n, size) => n * size, 1) }),
      });
      const parts =
        feedForward.kind === "mlp"
          ? [{ weights: feedForward.weights, scale: 1 }]
          : layers.get(i)!.experts.map((e, j) => ({
              ...{ weights: feedForward.experts[e]!, scale: layers.get(i)!.scales[j]! },
            }));
      const shared = (feedForward as MoeDescription).shared?.mlp.weights;
      const all = [...parts, ...(shared ? [{ weights: shared, scale: layers.get(i)!.sharedScale ?? 1 }] : [])];
      let first = 0;
      for (const { weights, scale } of all) {
        const [gate, up, down] = viewsOf(weights);
        const [newGate, newUp, newDown] = viewsOf(mlp.weights);
        const units = gate.shape[0]!;
        const rows = first * 32;
        for (const [from, to] of [
          [gate, newGate],
          [up, newUp],
        ] as const)
          expect((await read(to).of(student)).slice(rows, rows + units * 32)).toEqual(await read(from).of(teacher));
        const stored = await read(down).of(teacher);
        const joined = await read(newDown).of(student);
        const scaled = decodeFloats(
          encodeFloats(
            stored.map((value) => value * scale),
            "BF16",
          ),
          "BF16",
        );
        const found = Array.from({ length: 32 }, (_, row) => [
          ...joined.subarray(row * intermediateSize + first, row * intermediateSize + first + units),
        ]);
        expect(found.flat()).toEqual([...scaled]);
        first += units;
      }
      const rest = (await read(viewsOf(mlp.weights)[2]).of(student)).filter((_, j) => j % intermediateSize >= first);
      expect(rest.every((value) => value === 0)).toBe(true);
    }
    const { ids: inputIds } = sequences;
    const common = { teacher: null, inputIds, batch: 3, positions: 16, runtime, scratchDirectory: temporaryFolder() };
    const logits = (await runForwardProbe({ ...common, model: student })).get("logits")!.data as Float32Array;
    expect(logits.every(Number.isFinite)).toBe(true);
  });
});

test("a family without a dense sibling, and more experts than there are, are refused by name", async () => {
  const build = async (family: string, experts: number) =>
    measureDense({
      ...{ teacher: await openModel(goldenCheckpoint(family)), sequences: randomSequences(3, 1, 8), runtime },
      ...{ build: buildOptions.parse({ experts, maxTokens: 8 }), scratchDirectory: temporaryFolder() },
    });
  await expect(build("gpt_oss", 2)).rejects.toThrow(/no dense family whose layers are those of "gpt_oss"/);
  await expect(build("mixtral", 9)).rejects.toThrow(/9 experts were asked for, but layer 0 has 8/);
});

test("a folder that holds something is refused before the text is read", async () => {
  const output = temporaryFolder();
  await writeFile(path.join(output, "mine.txt"), "mine");
  const data = { calibration: "missing.jsonl", sequences: 2, sequenceLength: 8 };
  const recipe = { schemaVersion: 1, teacher: goldenCheckpoint("mixtral"), data, compress: { keep: 0.5 }, output };
  const hooks = { signal: new AbortController().signal, report: () => undefined, onNote: () => undefined };
  const built = buildStudent(recipeSchema.parse(recipe), output, usualStudent, hooks);
  await expect(built).rejects.toMatchObject({
    code: "output/not-empty",
    message: expect.stringMatching(/mine\.txt/) as string,
  });
});

function viewsOf({ gateUp, downProj }: ExpertWeights) {
  if (gateUp.kind !== "separate") throw new Error("joined");
  return [gateUp.gateProj.weight, gateUp.upProj.weight, downProj.weight] as const;
}
