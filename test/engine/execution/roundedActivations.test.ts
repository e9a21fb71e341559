import { describe, expect, test } from "vitest";
import { appendBackward } from "../../../src/engine/autodiff/backward";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { liveWork } from "../../../src/engine/run/liveWork";
import { withRoundedActivations } from "../../../src/engine/model/roundedActivations";
import { BlockSession } from "../../../src/engine/runtime/session";
import { float8E4M3Values } from "../../../src/engine/tensor/float8";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCheckpoint } from "../../support/goldens";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

async function rounded(rows: number[][], to: "int8" | "fp8") {
  const builder = new GraphBuilder("float32");
  const width = rows[0]!.length;
  const x = builder.input("x", ["T", width]);
  const y = builder.roundTokens(x, to);
  const dy = builder.input("dy", ["T", width]);
  const [dx] = appendBackward(builder, [{ output: y, gradient: dy }], [x]);
  const graph = builder.build({ y, dx: builder.add(dx!, builder.constant([0])) });
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  const feed = (data: number[]) => ({
    type: "float32" as const,
    shape: [rows.length, width],
    data: Float32Array.from(data),
  });
  const out = await session.run({ x: feed(rows.flat()), dy: feed(rows.flat().map((_, i) => i)) });
  await session.release();
  expect([...(out["dx"]!.data as Float32Array)]).toEqual(rows.flat().map((_, i) => i));
  return [...(out["y"]!.data as Float32Array)];
}

describe("a token's activations", () => {
  test("as int8, worked by hand: the scale is the largest over 127.5, halves go to even, 128 is 127", async () => {
    // Scales 1, 2, 0 and 1 of the four rows.
    const found = await rounded(
      [
        [-127.5, 0.5, 1.5, 2.5],
        [255, -3, 5, 0.9],
        [0, 0, 0, 0],
        [127.5, -127.5, 126.5, -0.4],
      ],
      "int8",
    );
    expect(found).toEqual([-128, 0, 2, 2, 254, -4, 4, 0, 0, 0, 0, 0, 127, -128, 126, -0]);
  });

  test("as E4M3: every number of the format stays, those between go to the nearest, halves to even", async () => {
    const finite = [...float8E4M3Values].filter((value) => Number.isFinite(value));
    expect(await rounded([finite], "fp8")).toEqual(finite);
    // Scale 1: 448 is the largest. Steps are 2 from 16 on, 1/64 at 1/8, 2^-9 below 2^-6.
    const found = await rounded([[448, 17, 19, -17.1, 0.1328125, 2 ** -10, 3 * 2 ** -10, 431.9]], "fp8");
    expect(found).toEqual([448, 16, 20, -18, 0.125, 0, 2 ** -8, 416]);
    expect(await rounded([[0, 0]], "fp8")).toEqual([0, 0]);
  });
});

test.each(daily(1, ["qwen3_moe", "gpt_oss", "llama4"]))(
  "%s: experts read rounded activations, the teacher does not",
  async (name) => {
    const model = await openModel(goldenCheckpoint(name));
    const sequences = randomSequences(1, 4, 16, { vocabSize: model.description.vocabSize });
    const common = { teacher: model, sequences, expertMapping: null, runtime, report: () => undefined };
    const of = async (activations: "int8" | "fp8" | undefined) =>
      liveWork.evaluate({
        ...{ ...common, model, stateDirectory: temporaryFolder(), signal: new AbortController().signal },
        ...(activations ? { activations } : {}),
      });
    const [exact, int8, fp8] = [await of(undefined), await of("int8"), await of("fp8")];
    expect(exact.klToTeacher).toBeLessThan(1e-9);
    expect([exact.activations, int8.activations, fp8.activations]).toEqual([undefined, "int8", "fp8"]);
    expect(int8.klToTeacher).toBeGreaterThan(1e-9);
    expect(fp8.klToTeacher! / int8.klToTeacher!).toBeGreaterThan(2);
    expect(int8.klToTeacher).toBeLessThan(1e-2);
  },
);

test("an expert's outputs are those of plain loops over rounded numbers", async () => {
  const model = withRoundedActivations(await openModel(goldenCheckpoint("qwen3_moe")), "fp8");
  const [H, I, layer] = [32, 24, model.description.layers[0]!];
  const numExperts = 8;
  const executor = await ModelExecutor.open({
    ...{ ...model, sequenceLength: 4, runtime, scratchDirectory: temporaryFolder(), direction: "forward" },
  });
  const random = createRandom(2);
  const x = Float32Array.from({ length: 4 * H }, () => random.normal());
  // Two tokens at expert 0, two at expert 5.
  const firstRow = Int32Array.from({ length: numExperts + 1 }, (_, e) => (e === 0 ? 0 : e <= 5 ? 2 : 4));
  const assignment = { tokenOfRow: Int32Array.of(0, 1, 2, 3), firstRow };
  const weights = Float32Array.of(1, 0.5, 0.25, 0.1);
  const found = await executor.expertRows(layer, { feedForwardInput: x, assignment }, weights);
  await executor.close();
  // The nearest number of the format, by looking at all of them. The largest of a token lies on none of its borders, as with int8.
  const numbers = [...float8E4M3Values].filter((value) => Number.isFinite(value));
  const round = (values: number[]) => {
    const scale = Math.max(...values.map(Math.abs)) / 448;
    const nearest = (v: number) => numbers.reduce((best, n) => (Math.abs(n - v) < Math.abs(best - v) ? n : best), 0);
    return values.map((value) => scale * nearest(value / scale));
  };
  for (const [t, e] of [0, 0, 5, 5].entries()) {
    const of = async (name: string, rows: number, values: number[]) => {
      const w = await readFloat32(model.checkpoint.tensors.get(`model.layers.0.mlp.experts.${e}.${name}.weight`)!);
      return Array.from({ length: rows }, (_, r) =>
        values.reduce((sum, v, i) => sum + v * w[r * values.length + i]!, 0),
      );
    };
    const read = round([...x.subarray(t * H, (t + 1) * H)]);
    const [gate, up] = [await of("gate_proj", I, read), await of("up_proj", I, read)];
    const hidden = gate.map((g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
    const expected = await of("down_proj", H, round(hidden));
    const largest = Math.max(...expected.map(Math.abs));
    expected.forEach((value, i) =>
      expect(Math.abs(found[t * H + i]! / weights[t]! - value) / largest).toBeLessThan(1e-5),
    );
  }
});
