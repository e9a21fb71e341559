import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, it } from "vitest";
import { openShard } from "../../../src/engine/checkpoint/shardFile";
import { tensorStatistics } from "../../../src/engine/checkpoint/tensorStatistics";

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
  return tensorStatistics(tensors[0]!);
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
