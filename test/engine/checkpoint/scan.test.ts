import path from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { writeSafetensorsFile, type MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import { scanForNonFinite } from "../../../src/engine/checkpoint/scan";
import { tensorStatistics } from "../../../src/engine/checkpoint/statistics";
import { createRandom } from "../../../src/engine/tensor/random";
import { expectError, folderWith } from "./fixtures";

async function checkpointOf(tensors: Record<string, MemoryTensor>) {
  const folder = folderWith({ "config.json": {} });
  await writeSafetensorsFile(path.join(folder, "model.safetensors"), new Map(Object.entries(tensors)));
  return openCheckpoint(folder);
}

describe("scanForNonFinite", () => {
  const large = new Uint16Array(5_000_000).fill(0x3f80);
  large[4_999_998] = 0x7fc0;
  const rows: [MemoryTensor["dtype"], ArrayBufferView, number, number][] = [
    ["F32", Float32Array.of(3.4e38, -0, 1e-45), 0, -1],
    ["F32", Float32Array.of(1, -Infinity, NaN), 2, 1],
    ["F64", Float64Array.of(1e308, NaN), 1, 1],
    ["BF16", Uint16Array.of(0x7f7f, 0xff80, 0x0001), 1, 1],
    ["BF16", large, 1, 4_999_998],
    ["F16", Uint16Array.of(0x7bff, 0x7c00, 0xfe00), 2, 1],
    ["F8_E4M3", Uint8Array.of(0x7e, 0xff), 1, 1],
    ["F8_E5M2", Uint8Array.of(0x7b, 0x7c, 0xff), 2, 1],
    ["F8_E8M0", Uint8Array.of(254, 255), 1, 1],
    ["I64", BigInt64Array.of(-1n), 0, -1],
    ["U8", Uint8Array.of(255), 0, -1],
  ];
  it.each(rows)("%s", async (dtype, data, count, firstElement) => {
    const bytesPerElement = { F64: 8, I64: 8, F32: 4, BF16: 2, F16: 2 }[dtype as string] ?? 1;
    const checkpoint = await checkpointOf({ w: { dtype, shape: [data.byteLength / bytesPerElement], data } });
    expect(await scanForNonFinite(checkpoint)).toEqual(count === 0 ? [] : [{ name: "w", count, firstElement }]);
  });

  it("looks only at the tensors named, and refuses names that are not there", async () => {
    const bad = { dtype: "F32" as const, shape: [2], data: Float32Array.of(1, NaN) };
    const checkpoint = await checkpointOf({ a: bad, b: bad, c: { ...bad, data: Float32Array.of(1, 2) } });
    expect(await scanForNonFinite(checkpoint, ["c"])).toEqual([]);
    expect((await scanForNonFinite(checkpoint)).map(({ name }) => name)).toEqual(["a", "b"]);
    await expectError(() => scanForNonFinite(checkpoint, ["z"]), "checkpoint/missing-tensor", '"z"');
    await expectError(() => scanForNonFinite(checkpoint, ["a"], AbortSignal.abort()), "cancelled");
  });
});

describe("tensorStatistics", () => {
  it("agrees with the definitions, on more elements than a chunk", async () => {
    const random = createRandom(3);
    // A mean far from zero shows whether digits are lost.
    const values = Float32Array.from({ length: 1_200_000 }, () => 100 + random.normal());
    const numbers = [...values];
    const { tensors } = await checkpointOf({ w: { dtype: "F32", shape: [3, 400_000], data: values } });
    const statistics = await tensorStatistics(tensors.get("w")!);
    const mean = numbers.reduce((sum, v) => sum + v, 0) / numbers.length;
    const variance = numbers.reduce((sum, v) => sum + (v - mean) ** 2, 0) / numbers.length;
    const [min, max] = numbers.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    expect(statistics).toMatchObject({ name: "w", count: 1_200_000, finite: 1_200_000, zeros: 0, min, max });
    expect(statistics.mean).toBeCloseTo(mean, 9);
    expect(statistics.standardDeviation).toBeCloseTo(Math.sqrt(variance), 9);
    const { edges, counts } = statistics.histogram;
    expect([edges.length, edges[0], edges.at(-1)]).toEqual([counts.length + 1, min, max]);
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(1_200_000);
    const bin = 30;
    const last = (v: number) => v >= edges[bin]! && v < edges[bin + 1]!;
    expect(counts[bin]).toBe(numbers.filter(last).length);
  });

  const rows: [string, MemoryTensor, object][] = [
    [
      "what is not finite is left out",
      { dtype: "F32", shape: [5], data: Float32Array.of(NaN, 0, -0, 3, Infinity) },
      { count: 5, finite: 3, zeros: 2, min: 0, max: 3, mean: 1, standardDeviation: Math.SQRT2 },
    ],
    [
      "equal values have one bin",
      { dtype: "F16", shape: [2], data: Uint16Array.of(0x3c00, 0x3c00) },
      { min: 1, max: 1, standardDeviation: 0, histogram: { edges: [1, 1], counts: [2] } },
    ],
    [
      "nothing finite",
      { dtype: "F32", shape: [1], data: Float32Array.of(NaN) },
      {
        count: 1,
        finite: 0,
        min: NaN,
        max: NaN,
        mean: NaN,
        standardDeviation: NaN,
        histogram: { edges: [], counts: [] },
      },
    ],
    ["no elements", { dtype: "F32", shape: [0], data: new Float32Array(0) }, { count: 0, finite: 0, mean: NaN }],
    [
      "large integers are exact",
      { dtype: "I64", shape: [2], data: BigInt64Array.of(2n ** 40n + 1n, 2n ** 40n + 3n) },
      { mean: 2 ** 40 + 2, standardDeviation: 1 },
    ],
    [
      "a range beyond float32",
      { dtype: "F64", shape: [2], data: Float64Array.of(-1e300, 1e300) },
      { finite: 2, min: -1e300, max: 1e300, mean: 0 },
    ],
  ];
  it.each(rows)("%s", async (_what, tensor, expected) => {
    const { tensors } = await checkpointOf({ w: tensor });
    expect(await tensorStatistics(tensors.get("w")!)).toMatchObject(expected);
  });
});
