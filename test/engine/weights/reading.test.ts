import { describe, expect, test } from "vitest";
import { appendBackward } from "../../../src/engine/autodiff/backward";
import { BlockWeights } from "../../../src/engine/graph/blocks/weights";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { lowerNode } from "../../../src/engine/graph/onnxLower";
import { providerProfiles } from "../../../src/engine/graph/providerProfiles";
import { Weights } from "../../../src/engine/model/weights";
import { BlockSession } from "../../../src/engine/runtime/session";
import { createRandom } from "../../../src/engine/tensor/random";
import {
  awqPacked,
  eightBits,
  gptqPacked,
  mxfp4Packed,
  nvfp4Packed,
  packQuantized,
  packRows,
  shuffled,
  transposed,
  unpackRows,
  type PackedLayout,
} from "../../support/packedLayouts";
import { rawCheckpoint } from "../../support/rawCheckpoint";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

interface Row {
  name: string;
  layout: PackedLayout;
  size: readonly [outputs: number, inputs: number];
  /** Whether the forward product reads the packed bytes as they are. */
  direct?: true;
}

const rows: Row[] = [
  { name: "pack-quantized 4 bits", layout: packQuantized(4, 16), size: [5, 64], direct: true },
  {
    name: "pack-quantized 4 bits, group 32, F16 scales",
    layout: packQuantized(4, 32, true, "F16"),
    size: [7, 64],
    direct: true,
  },
  { name: "pack-quantized 2 bits", layout: packQuantized(2, 16), size: [3, 48], direct: true },
  { name: "pack-quantized 3 bits", layout: packQuantized(3, 16), size: [5, 64] },
  { name: "pack-quantized 3 bits, last word half filled", layout: packQuantized(3, 20), size: [3, 40] },
  { name: "pack-quantized 8 bits", layout: packQuantized(8, 16), size: [5, 32] },
  { name: "pack-quantized 8 bits, F32 scales", layout: packQuantized(8, 128, true, "F32"), size: [2, 256] },
  { name: "pack-quantized 4 bits, channel", layout: packQuantized(4, 0), size: [5, 96], direct: true },
  { name: "pack-quantized 8 bits, channel, odd width", layout: packQuantized(8, 0), size: [3, 21] },
  { name: "pack-quantized 4 bits, channel, odd width", layout: packQuantized(4, 0), size: [3, 21] },
  { name: "pack-quantized 3 bits, channel, odd width", layout: packQuantized(3, 0), size: [3, 21] },
  { name: "pack-quantized 2 bits, channel, odd width", layout: packQuantized(2, 0), size: [3, 21] },
  { name: "pack-quantized 4 bits, a group that no kernel takes", layout: packQuantized(4, 24), size: [4, 48] },
  { name: "pack-quantized 4 bits, asymmetric", layout: packQuantized(4, 16, false), size: [9, 32] },
  { name: "pack-quantized 8 bits, asymmetric", layout: packQuantized(8, 16, false), size: [9, 32] },
  { name: "pack-quantized 3 bits, asymmetric, channel", layout: packQuantized(3, 0, false), size: [33, 32] },
  { name: "int-quantized, channel", layout: eightBits("int", "channel"), size: [5, 33] },
  { name: "int-quantized, tensor", layout: eightBits("int", "tensor"), size: [5, 33] },
  { name: "float-quantized, channel", layout: eightBits("float", "channel"), size: [5, 33] },
  { name: "float-quantized, tensor", layout: eightBits("float", "tensor"), size: [5, 33] },
  { name: "float-quantized, block", layout: eightBits("float", [4, 16]), size: [10, 40] },
  { name: "mxfp4-pack-quantized", layout: mxfp4Packed, size: [5, 64] },
  { name: "nvfp4-pack-quantized", layout: nvfp4Packed, size: [5, 64] },
  { name: "GPTQ v1, 4 bits", layout: gptqPacked(4, 16, 1), size: [8, 32] },
  { name: "GPTQ v2, 4 bits", layout: gptqPacked(4, 16, 2), size: [16, 64] },
  { name: "GPTQ v1, 2 bits", layout: gptqPacked(2, 32, 1), size: [16, 64] },
  { name: "GPTQ v1, 3 bits", layout: gptqPacked(3, 32, 1), size: [32, 64] },
  { name: "GPTQ v1, 8 bits", layout: gptqPacked(8, 8, 1), size: [4, 24] },
  { name: "AWQ gemm", layout: awqPacked(16), size: [24, 48] },
];

describe("a packed matrix is read as the numbers that its layout says", () => {
  test.each(rows)("$name", async ({ name, layout, size: [outputs, inputs], direct }) => {
    const random = createRandom(5, name.length);
    const stored = layout(outputs, inputs, random);
    const tensors = Object.fromEntries(Object.entries(stored.tensors).map(([end, tensor]) => [`m.${end}`, tensor]));
    const checkpoint = rawCheckpoint(3, tensors, { quantization_config: stored.quantisation });
    const weights = new Weights(checkpoint);
    const linear = weights.linear("m", inputs, outputs, { bias: false, because: "a test" });
    expect(weights.unused()).toEqual([]);

    const builder = new GraphBuilder();
    const block = new BlockWeights(builder, checkpoint);
    const x = builder.input("x", ["T", inputs]);
    const y = block.linear(x, linear);
    const dy = builder.input("dy", ["T", outputs]);
    const one = builder.input("one", [1]);
    const [dx] = appendBackward(builder, [{ output: y, gradient: dy }], [x]);
    // A copy of an initialiser alone would be folded away; the product with 1 changes no bit.
    const graph = builder.build({ y, dx: dx!, w: builder.mul(block.float(linear.weight), one) });
    expect(graph.nodes.some(({ op }) => op === "MatMulNBits")).toBe(direct === true);
    expect(
      graph.nodes
        .flatMap((node) => lowerNode(node, providerProfiles.cpu))
        .filter(({ op }) => op === "MatMulNBits")
        .map(levelOf),
    ).toEqual(direct ? [0] : []);

    const tokens = 3;
    const normal = (count: number) => Float32Array.from({ length: count }, () => random.normal());
    const feeds = { x: normal(tokens * inputs), dy: normal(tokens * outputs) };
    const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
    const out = await session.run({
      x: { type: "float32", shape: [tokens, inputs], data: feeds.x },
      dy: { type: "float32", shape: [tokens, outputs], data: feeds.dy },
      one: { type: "float32", shape: [1], data: Float32Array.of(1) },
    });
    await session.release();

    const w = out["w"]!.data as Float32Array;
    expect(linear.layout === "out-in" ? w : transposed(w, inputs)).toEqual(stored.values);
    const at = (o: number, i: number) => stored.values[o * inputs + i]!;
    const expected = product(feeds.x, tokens, inputs, outputs, (i, o) => at(o, i));
    expect(relative(out["y"]!.data as Float32Array, expected)).toBeLessThan(2e-6);
    const gradient = product(feeds.dy, tokens, outputs, inputs, at);
    expect(relative(out["dx"]!.data as Float32Array, gradient)).toBeLessThan(2e-6);
  });
});

function levelOf({ attributes }: ReturnType<typeof lowerNode>[number]): unknown {
  return attributes.find(([name]) => name === "accuracy_level")?.[1];
}

/** a [tokens, inner] times b(inner, columns), in double precision. */
function product(
  a: Float32Array,
  tokens: number,
  inner: number,
  columns: number,
  b: (i: number, column: number) => number,
): Float64Array {
  return Float64Array.from({ length: tokens * columns }, (_, at) => {
    const [t, column] = [Math.floor(at / columns), at % columns];
    let sum = 0;
    for (let i = 0; i < inner; i++) sum += a[t * inner + i]! * b(i, column);
    return sum;
  });
}

function relative(actual: Float32Array, expected: Float64Array): number {
  let [error, size] = [0, 0];
  expected.forEach((value, i) => {
    error = Math.max(error, Math.abs(actual[i]! - value));
    size = Math.max(size, Math.abs(value));
  });
  return error / size;
}

/** Words worked out by hand, and those that compressed-tensors, GPTQ and AWQ write. */
describe("hand vectors of the test's own packing", () => {
  const words = (codes: number[], width: number, bits: number) => [...packRows(codes, width, bits)];
  const offset = (codes: number[], bits: number) => codes.map((code) => code + 2 ** (bits - 1));
  test.each([
    ["int4 -8 ... 7", Array.from({ length: 16 }, (_, i) => i - 8), 4, [1985229328, -19088744]],
    ["int8", [-128, -1, 0, 127], 8, [-8356096]],
    ["int2", [-2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1, -2, -1, 0, 1], 2, [-454761244]],
    ["int3", Array.from({ length: 32 }, (_, i) => (i % 8) - 4), 3, [0x88fac688 | 0, 0xc688fac6 | 0, 0xfac688fa | 0]],
  ] as const)("%s", (_, codes, bits, expected) => {
    expect(words(offset([...codes], bits), codes.length, bits)).toEqual(expected);
    expect([...unpackRows(Int32Array.from(expected), 1, codes.length, bits)]).toEqual(offset([...codes], bits));
  });
  test("GPTQ zeros of symmetric int4, and an AWQ word", () => {
    expect(words(new Array<number>(8).fill(7), 8, 4)).toEqual([2004318071]);
    expect(words([...shuffled(Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7))], 8, 4)).toEqual([0x75316420]);
  });
});
