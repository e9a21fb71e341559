import { readFileSync } from "node:fs";
import path from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { plannedSize, checkpointSize } from "../../../src/engine/compression/plannedSize";
import { scalesAt } from "../../../src/engine/compression/quantising/awq";
import { gptq, outputLoss } from "../../../src/engine/compression/quantising/gptq";
import { loaderNotes } from "../../../src/engine/compression/quantising/loaders";
import { ignoreList } from "../../../src/engine/compression/quantising/quantisedConfig";
import { checkWritten } from "../../../src/engine/compression/quantising/readBack";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { packedStatistics } from "../../../src/engine/execution/packedStatistics";
import { BlockWeights } from "../../../src/engine/graph/blocks/weights";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { identity, matrix, randomMatrix, type Matrix } from "../../../src/engine/linalg/matrix";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { quantisedOutput } from "../../../src/engine/run/preflight/quantisedOutput";
import { BlockSession } from "../../../src/engine/runtime/session";
import { float8E4M3Values } from "../../../src/engine/tensor/float8";
import { decodeFloats } from "../../../src/engine/tensor/floatCodec";
import { dequantised, roundToNearest } from "../../../src/engine/weights/roundIntegers";
import type { WeightView } from "../../../src/engine/weights/view";
import type { QuantisationPlan } from "../../../src/protocol/plan";
import { compressOptions, type CompressOptions } from "../../../src/protocol/recipe";
import { goldenCheckpoint } from "../../support/goldens";
import { writeMxfp4 } from "../../support/otherLayouts";
import { transposed, unpackRows } from "../../support/packedLayouts";
import { decodeMxfp4 } from "../../support/quantisedBlocks";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";
import { makeContext, randomSequences, runtime } from "./support";

const products = new MatrixProducts(runtime);
afterAll(() => products.close());

describe("GPTQ", () => {
  const grid = (bits: 2 | 3 | 4 | 8, group: number) => ({ bits, group, scaleType: "F32" as const });
  const diagonal = (values: readonly number[]): Matrix => {
    const result = matrix(values.length, values.length);
    values.forEach((value, i) => (result.data[i * values.length + i] = value));
    return result;
  };

  test("worked by hand: two weights of 0.6 that fire together, a step of 1", async () => {
    // A third input of its own, whose weight of 7.5 makes the step 1; it is taken last.
    const weights = matrix(1, 3, [0.6, 0.6, 7.5]);
    const hessian = matrix(3, 3, [1, 0.5, 0, 0.5, 1, 0, 0, 0, 0.5]);
    const request = { grid: grid(4, 3), damp: 0, block: 128 };
    const swept = await gptq(products, weights, hessian, request);
    expect([...swept.codes]).toEqual([1, 0, 7]);
    const nearest = roundToNearest(weights.data, 1, 3, request.grid);
    expect([...nearest.codes]).toEqual([1, 1, 7]);
    const own = 0.5 ** 2 * 0.5;
    expect(await outputLoss(products, weights, dequantised(swept), hessian)).toBeCloseTo(0.28 + own, 6);
    expect(await outputLoss(products, weights, dequantised(nearest), hessian)).toBeCloseTo(0.48 + own, 6);
  });

  test("inputs that are not correlated: the nearest codes, whatever the seed", async () => {
    for (let seed = 0; seed < 20; seed++) {
      const weights = randomMatrix(4, 32, seed);
      const nearest = roundToNearest(weights.data, 4, 32, grid(3, 16)).codes;
      const scales = randomMatrix(1, 32, seed + 1).data.map((value) => value * value + 0.01);
      for (const hessian of [identity(32), diagonal([...scales])]) {
        const { codes } = await gptq(products, weights, hessian, { grid: grid(3, 16), damp: 0.01, block: 8 });
        expect(codes).toEqual(nearest);
      }
    }
  });

  test("blocks change nothing, and what is lost is less than by rounding to nearest", async () => {
    let [swept, nearest] = [0, 0];
    for (let seed = 0; seed < 20; seed++) {
      const weights = randomMatrix(8, 32, seed);
      const x = randomMatrix(64, 32, seed + 100);
      const mixed = await products.multiply(x, randomMatrix(32, 32, seed + 200));
      const hessian = await products.gramOfColumns(mixed);
      const request = { grid: grid(3, 16), damp: 0.01 };
      const [small, large] = [
        await gptq(products, weights, hessian, { ...request, block: 4 }),
        await gptq(products, weights, hessian, { ...request, block: 128 }),
      ];
      expect(small.codes).toEqual(large.codes);
      swept += await outputLoss(products, weights, dequantised(large), hessian);
      nearest += await outputLoss(
        products,
        weights,
        dequantised(roundToNearest(weights.data, 8, 32, request.grid)),
        hessian,
      );
    }
    expect(swept).toBeLessThan(0.75 * nearest);
  });

  test("AWQ: an exponent of 0 leaves every channel as it is", () => {
    expect([...scalesAt(Float64Array.of(3, 0, 0.2), 3, 0)]).toEqual([1, 1, 1]);
  });
});

/** Numbers of one written module, by the layout's description alone. */
function decoded({ tensors: files, config }: Checkpoint, module: string, [O, I]: readonly number[]): Float32Array {
  const bytes = (ending: string) => {
    const { shard, byteOffset, byteLength } = files.get(`${module}.${ending}`)!;
    return new Uint8Array(readFileSync(shard.realPath).subarray(byteOffset, byteOffset + byteLength));
  };
  const floats = (ending: string) => decodeFloats(bytes(ending), files.get(`${module}.${ending}`)!.dtype);
  const numbers = (value: (o: number, i: number) => number) =>
    Float32Array.from({ length: O! * I! }, (_, at) => value(Math.floor(at / I!), at % I!));
  if (files.has(`${module}.weight_scale_inv`)) {
    const [codes, scales] = [bytes("weight"), floats("weight_scale_inv")];
    const width = Math.ceil(I! / 128);
    return numbers((o, i) =>
      Math.fround(float8E4M3Values[codes[o * I! + i]!]! * scales[Math.floor(o / 128) * width + Math.floor(i / 128)]!),
    );
  }
  if (!files.has(`${module}.weight_packed`)) {
    const [codes, scales] = [bytes("weight"), floats("weight_scale")];
    return numbers((o, i) => Math.fround(float8E4M3Values[codes[o * I! + i]!]! * scales[o]!));
  }
  if (files.get(`${module}.weight_packed`)!.dtype === "U8") {
    const [codes, exponents] = [bytes("weight_packed"), bytes("weight_scale")];
    return numbers((o, i) => {
      const code = (codes[(o * I! + i) >> 1]! >> (4 * (i % 2))) & 15;
      return (code & 8 ? -1 : 1) * [0, 0.5, 1, 1.5, 2, 3, 4, 6][code & 7]! * 2 ** (exponents[(o * I! + i) >> 5]! - 127);
    });
  }
  const words = new Int32Array(bytes("weight_packed").buffer);
  expect([...new BigInt64Array(bytes("weight_shape").buffer)].map(Number)).toEqual([O, I]);
  const scales = floats("weight_scale");
  const { config_groups } = config["quantization_config"] as {
    config_groups: { group_0: { weights: { num_bits: number; symmetric: boolean } } };
  };
  const bits = config_groups.group_0.weights.num_bits;
  const u = unpackRows(words, O!, I!, bits);
  const groups = scales.length / O!;
  // Zero points: words [ceil(O * bits / 32), groups], the same stream down each column.
  let zeros: Int32Array | null = null;
  if (!config_groups.group_0.weights.symmetric) {
    const stored = new Int32Array(bytes("weight_zero_point").buffer);
    zeros = unpackRows(transposed(stored, stored.length / groups), groups, O!, bits);
  }
  return numbers((o, i) => {
    const g = Math.floor((i * groups) / I!);
    return Math.fround((u[o * I! + i]! - (zeros?.[g * O! + o] ?? 2 ** (bits - 1))) * scales[o * groups + g]!);
  });
}

async function asComputed(model: Awaited<ReturnType<typeof openModel>>, view: WeightView): Promise<Float32Array> {
  const builder = new GraphBuilder();
  const value = new BlockWeights(builder, model.checkpoint).float(view);
  const graph = builder.build({ y: builder.mul(value, builder.input("one", [1])) });
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  const { y } = await session.run({ one: { type: "float32", shape: [1], data: Float32Array.of(1) } });
  await session.release();
  return y!.data as Float32Array;
}

const coarse = path.join("test", "fixtures", "coarse");

interface Written {
  title: string;
  from: string;
  method: CompressOptions["method"];
  options: CompressOptions["options"];
}

const rows: Written[] = [
  { title: "qwen3_moe, nearest, 8 bits", from: "qwen3_moe", method: "rtn", options: { bits: 8, group: 8 } },
  { title: "olmoe, nearest, 3 bits, a scale a row", from: "olmoe", method: "rtn", options: { bits: 3, group: 0 } },
  { title: "qwen3_moe, GPTQ, 4 bits", from: "qwen3_moe", method: "gptq", options: { bits: 4, group: 8 } },
  { title: "mixtral, GPTQ, 2 bits", from: "mixtral", method: "gptq", options: { bits: 2, group: 8 } },
  { title: "glm4_moe, AWQ, 4 bits", from: "glm4_moe", method: "awq", options: { bits: 4, group: 8 } },
  {
    ...{ title: "olmoe, GPTQ, 4 bits with zero points", from: "olmoe", method: "gptq" },
    options: { bits: 4, group: 8, symmetric: false },
  },
  {
    ...{ title: "mixtral, nearest, 3 bits with zero points", from: "mixtral", method: "rtn" },
    options: { bits: 3, group: 8, symmetric: false, scale: "mse" },
  },
  { title: "deepseek_v3, FP8, a scale a row", from: "deepseek_v3", method: "fp8", options: { format: "fp8" } },
  { title: "a trained Mixtral, MXFP4", from: coarse, method: "mxfp4", options: {} },
  {
    ...{ title: "qwen3_vl_moe, whose experts are fused, GPTQ, 4 bits", from: "qwen3_vl_moe", method: "gptq" },
    options: { bits: 4, group: 8 },
  },
  {
    ...{ title: "llama4_text, fused with inputs first, FP8, a scale a row", from: "llama4_text", method: "fp8" },
    options: { format: "fp8" },
  },
];

describe.each(rows)("$title", ({ from, method, options }) => {
  test("decodes by an independent reader to what is computed with; everything else keeps its bytes", async () => {
    const teacher = await openModel(from === coarse ? coarse : goldenCheckpoint(from));
    const needsText = method === "gptq" || method === "awq";
    const context = await makeContext(
      teacher,
      temporaryFolder(),
      { method, options, keep: 1 },
      needsText ? randomSequences(teacher) : null,
    );
    const plan = (await makePlan(context)) as QuantisationPlan;
    const layers = await applyPlan(context, plan);
    const directory = path.join(temporaryFolder(), "quantised");
    await writeCompressedCheckpoint({
      ...context,
      plan,
      layers: layers!,
      directory,
      provenance: { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} },
    });
    await checkWritten(context, plan, layers!, directory);

    const student = await openModel(directory);
    const [size, planned] = [checkpointSize(student.checkpoint), plannedSize(teacher, plan)];
    expect(size.bytes).toBe(planned.bytes);
    // Packed words count as the numbers that they hold; headers do not say how many of a last word are filling.
    if (options["group"] !== 0) expect(size.parameters).toBe(planned.parameters);
    expect(planned.parameters).toBe(checkpointSize(teacher.checkpoint).parameters);
    const [before, after] = [await tensorDigests(teacher.checkpoint), await tensorDigests(student.checkpoint)];
    const isRouted = (name: string) =>
      /\.experts\.(\d+\.|gate_up_proj|down_proj)/.test(name) && !name.includes("shared");
    for (const [name, digest] of before) if (!isRouted(name)) expect(after.get(name), name).toBe(digest);
    let compared = 0;
    for (const { moe } of moeLayers(student.description).slice(0, 1)) {
      for (const { gateUp, downProj } of moe.experts.slice(0, 2)) {
        if (gateUp.kind !== "separate") throw new Error("not separate");
        for (const { weight } of [gateUp.gateProj, gateUp.upProj, downProj]) {
          const module = weight.tensor.slice(0, weight.tensor.lastIndexOf("."));
          const expected = decoded(student.checkpoint, module, weight.shape);
          expect(await asComputed(student, weight)).toEqual(expected);
          if (compared++ > 0) continue;
          // What the tensor editor says of it: numbers, codes and scales.
          const packed = (await packedStatistics(student.checkpoint, student.description, weight.tensor))!;
          const { values, codes, scales } = packed;
          expect(values).toMatchObject({
            count: expected.length,
            min: Math.min(...expected),
            max: Math.max(...expected),
          });
          expect(values.mean).toBeCloseTo(expected.reduce((sum, value) => sum + value, 0) / expected.length, 6);
          expect(values.zeros).toBe(expected.filter((value) => value === 0).length);
          expect(scales.every(({ name }) => name.startsWith(`${module}.`))).toBe(true);
          if (options["bits"] === undefined) continue;
          if (options["symmetric"] === false) continue;
          // Zero points are the middle: n bits are codes from -2^(n-1) to 2^(n-1) - 1.
          expect(codes!.min).toBeGreaterThanOrEqual(-(2 ** (Number(options["bits"]) - 1)));
          expect(codes!.max).toBeLessThan(2 ** (Number(options["bits"]) - 1));
          expect(Number.isInteger(codes!.min) && Number.isInteger(codes!.max)).toBe(true);
          expect(codes!.zeros).toBe(values.zeros);
        }
      }
    }
    expect(compared).toBe(6);
    const { ignore } = student.checkpoint.config["quantization_config"] as { ignore: string[] };
    const ignored = (module: string) =>
      ignore.some((one) => (one.startsWith("re:") ? new RegExp(`^(?:${one.slice(3)})`).test(module) : one === module));
    expect(ignored("lm_head")).toBe(true);
    for (const { moe } of moeLayers(student.description)) {
      expect(ignored(moe.router.weight.tensor.replace(/\.weight$/, ""))).toBe(true);
      expect(ignored(moe.experts[0]!.downProj.weight.tensor.replace(/\.weight.*$/, ""))).toBe(false);
    }
  });
});

test("gpt-oss gets its own layout of MXFP4 back, in the numbers that it was released with", async () => {
  const { quantised, plain } = await writeMxfp4(temporaryFolder());
  const context = await makeContext(plain, temporaryFolder(), { method: "mxfp4", options: {}, keep: 1 }, null);
  const plan = (await makePlan(context)) as QuantisationPlan;
  const layers = (await applyPlan(context, plan))!;
  const directory = path.join(temporaryFolder(), "quantised");
  const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };
  await writeCompressedCheckpoint({ ...context, plan, layers, directory, provenance });
  await checkWritten(context, plan, layers, directory);

  const student = await openModel(directory);
  expect(checkpointSize(student.checkpoint)).toEqual(plannedSize(plain, plan));
  expect(plan.notes!.join()).toContain("transformers yes, vLLM yes");
  expect(student.checkpoint.config["quantization_config"]).toMatchObject({ quant_method: "mxfp4" });
  const [before, after] = [await tensorDigests(plain.checkpoint), await tensorDigests(student.checkpoint)];
  const names = [...quantised.checkpoint.tensors.keys()];
  expect([...after.keys()].sort()).toEqual(names.sort());
  for (const name of names.filter((one) => !/_(blocks|scales)$/.test(one)))
    expect(after.get(name)).toBe(before.get(name));
  const numbers = (model: typeof student, prefix: string) => {
    const bytes = (ending: string) => {
      const { shard, byteOffset, byteLength } = model.checkpoint.tensors.get(`${prefix}${ending}`)!;
      return new Uint8Array(readFileSync(shard.realPath).subarray(byteOffset, byteOffset + byteLength));
    };
    // Zero has a sign in FP4 that no rounding gives back.
    return decodeMxfp4(bytes("_blocks"), bytes("_scales")).map((value) => value + 0);
  };
  const prefixes = names.flatMap((name) => (name.endsWith("_blocks") ? [name.slice(0, -"_blocks".length)] : []));
  expect(prefixes).toHaveLength(6);
  for (const prefix of prefixes) expect(numbers(student, prefix)).toEqual(numbers(quantised, prefix));
});

describe("what cannot be written is refused before any work", () => {
  const plan = async ({ model = "qwen3_moe", ...options }: Partial<CompressOptions> & { model?: string }) => {
    const teacher = await openModel(goldenCheckpoint(model));
    return makePlan(await makeContext(teacher, temporaryFolder(), options, null));
  };
  test.each<[string, Partial<CompressOptions> & { model?: string }, string, string]>([
    ["a group that does not divide", { method: "rtn", options: { group: 10 } }, "plan/invalid", "does not divide"],
    ["FP8 blocks of other sizes", { method: "fp8", options: {} }, "plan/invalid", "use format=fp8"],
    ["MXFP4 of a width of 24", { method: "mxfp4", options: {} }, "plan/invalid", "width 24"],
    ["5 bits", { method: "rtn", options: { bits: 5 } }, "arguments/invalid", "bits"],
    [
      "gpt-oss, whose experts have no other layout",
      { model: "gpt_oss", method: "rtn", options: { group: 8 } },
      "model/unsupported-option",
      "there are no names for one tensor a projection",
    ],
    ["another format", { method: "gptq", options: { format: "fp8" } }, "arguments/invalid", "format"],
  ])("%s", async (_, options, code, message) => {
    await expect(plan(options)).rejects.toMatchObject({ code, message: expect.stringContaining(message) as string });
  });

  test("layers of different bits: the loader that reads them wrongly is named", async () => {
    const { description } = await openModel(goldenCheckpoint("qwen3_moe"));
    const [first, ...others] = moeLayers(description).map(({ layer }) => String(layer));
    const mixed: QuantisationPlan = {
      ...{ schemaVersion: 1, paradigm: "quantisation", method: "manual", format: "pack-quantized" },
      layers: {
        [first!]: { bits: 8, group: 32 },
        ...Object.fromEntries(others.map((layer) => [layer, { bits: 4, group: 32 }])),
      },
    };
    expect(loaderNotes(mixed, description).wrong).toEqual(["transformers"]);
    const compress = compressOptions.parse({});
    expect(() => quantisedOutput(compress, mixed, description)).toThrow(/transformers would load .* --force/);
    expect(quantisedOutput(compress, mixed, description, true).join()).toContain("compute other numbers");
    const one = { ...mixed, layers: { ...mixed.layers, [first!]: { bits: 4, group: 32 } } };
    expect(loaderNotes(one, description).wrong).toEqual([]);
  });

  test("experts of a layer for multi-token prediction are listed with their layer's number", () => {
    const expert = (layer: number) => `model.layers.${layer}.mlp.experts.3.up_proj`;
    expect(ignoreList(["lm_head", "model.layers.0.mlp.gate", expert(2)], [expert(0), expert(1)])).toEqual([
      "lm_head",
      "re:.*\\.mlp\\.gate$",
      "re:.*\\.layers\\.2\\.mlp\\.experts\\.\\d+\\.up_proj$",
    ]);
  });
});
