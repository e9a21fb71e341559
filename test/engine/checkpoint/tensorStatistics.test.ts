import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { writeSafetensorsFile, type MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import { openShard } from "../../../src/engine/checkpoint/shardFile";
import { statisticsOfTensor } from "../../../src/engine/checkpoint/tensorStatistics";
import { createRandom } from "../../../src/engine/tensor/random";
import { folderWith } from "./fixtures";

const folder = mkdtempSync(path.join(tmpdir(), "reroute-statistics-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function statisticsOf(values: number[]) {
  const header = JSON.stringify({ w: { dtype: "F32", shape: [values.length], data_offsets: [0, values.length * 4] } });
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  const file = path.join(folder, "model.safetensors");
  writeFileSync(file, Buffer.concat([size, Buffer.from(padded), Buffer.from(Float32Array.from(values).buffer)]));
  const { tensors } = await openShard(file);
  return statisticsOfTensor(tensors[0]!);
}

it("agrees with the definitions", async () => {
  const statistics = await statisticsOf([3, 0, -1, 4, 0, -6]);
  expect(statistics).toMatchObject({ name: "w", count: 6, finite: 6, min: -6, max: 4, mean: 0, zeros: 2 });
  expect(statistics.standardDeviation).toBeCloseTo(Math.sqrt((9 + 1 + 16 + 36) / 6), 12);
  const { edges, counts } = statistics.histogram;
  expect([edges.length, edges[0], edges.at(-1)]).toEqual([65, -6, 4]);
  expect(counts.reduce((sum, count) => sum + count)).toBe(6);
  expect([counts[0], counts[63]]).toEqual([1, 1]);
});

it("leaves out what is not finite, and says how many are", async () => {
  const statistics = await statisticsOf([NaN, 1, Infinity, 3, -Infinity]);
  expect(statistics).toMatchObject({ count: 5, finite: 2, min: 1, max: 3, mean: 2, standardDeviation: 1 });
  expect(statistics.histogram.counts.reduce((sum, count) => sum + count)).toBe(2);
});

it.each([
  [[5, 5, 5], 5],
  [[NaN], 0],
])("%j has one bin and no width", async (values, min) => {
  const statistics = await statisticsOf(values);
  expect([statistics.min, statistics.max, statistics.standardDeviation]).toEqual([min, min, 0]);
});

it("is exact over chunk borders", async () => {
  const count = 2 ** 20 + 3;
  const statistics = await statisticsOf(Array.from({ length: count }, (_, i) => (i < 2 ** 20 ? 0 : 7)));
  expect(statistics).toMatchObject({ count, finite: count, max: 7, zeros: 2 ** 20 });
  expect(statistics.mean).toBeCloseTo(21 / count, 15);
});

async function checkpointOf(tensors: Record<string, MemoryTensor>) {
  const directory = folderWith({ "config.json": {} });
  await writeSafetensorsFile(path.join(directory, "model.safetensors"), new Map(Object.entries(tensors)));
  return openCheckpoint(directory);
}

describe("tensorStatistics of stored values", () => {
  it("agrees with the definitions, on more elements than a chunk", async () => {
    const random = createRandom(3);
    // A mean far from zero shows whether digits are lost.
    const values = Float32Array.from({ length: 1_200_000 }, () => 100 + random.normal());
    const numbers = [...values];
    const { tensors } = await checkpointOf({ w: { dtype: "F32", shape: [3, 400_000], data: values } });
    const statistics = await statisticsOfTensor(tensors.get("w")!);
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
      "equal values are in the first bin",
      { dtype: "F16", shape: [2], data: Uint16Array.of(0x3c00, 0x3c00) },
      { min: 1, max: 1, standardDeviation: 0, histogram: { counts: [2, ...new Array<number>(63).fill(0)] } },
    ],
    [
      "nothing finite",
      { dtype: "F32", shape: [1], data: Float32Array.of(NaN) },
      { count: 1, finite: 0, min: 0, max: 0, mean: 0, standardDeviation: 0 },
    ],
    ["no elements", { dtype: "F32", shape: [0], data: new Float32Array(0) }, { count: 0, finite: 0, mean: 0 }],
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
    expect(await statisticsOfTensor(tensors.get("w")!)).toMatchObject(expected);
  });
});
