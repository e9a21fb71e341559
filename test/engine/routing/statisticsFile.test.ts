import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeSafetensorsFile } from "../../../src/engine/checkpoint/safetensorsFile";
import {
  emptyLayerStatistics,
  statisticsFields,
  type RoutingStatisticsData,
} from "../../../src/engine/routing/layerStatistics";
import { loadRoutingStatistics, saveRoutingStatistics } from "../../../src/engine/routing/statisticsFile";
import { createRandom } from "../../../src/engine/tensor/random";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "statistics-"));
});
afterAll(() => rm(folder, { recursive: true }));

function randomStatistics(): RoutingStatisticsData {
  const random = createRandom(7);
  const layers = [3, 11].map((layer) => {
    const stats = emptyLayerStatistics({ layer, numExperts: 5, numExpertsPerToken: 2, hiddenSize: 3 }, 2);
    for (const field of statisticsFields) {
      const isCount = field === "tokens" || field === "frequency";
      stats[field].forEach((_, i) => (stats[field][i] = isCount ? random.below(2 ** 31) * 1024 : random.normal()));
    }
    stats.maxActivation[0] = -Infinity;
    return stats;
  });
  layers[1]!.weightCosine = Float64Array.from({ length: 25 }, () => random.uniform());
  return { checkpoint: "/models/ä <b>", fingerprint: "f00", domainNames: ["law", "sea"], layers };
}

describe("routing-statistics.safetensors", () => {
  it("gives back every bit, and the same statistics give the same bytes", async () => {
    const file = path.join(folder, "a.safetensors");
    const statistics = randomStatistics();
    await saveRoutingStatistics(file, statistics);
    expect(await loadRoutingStatistics(file)).toEqual(statistics);
    const again = path.join(folder, "b.safetensors");
    await saveRoutingStatistics(again, await loadRoutingStatistics(file));
    expect((await readFile(again)).equals(await readFile(file))).toBe(true);
    const worstLayer = { layer: 3, topKOverlap: 0.9 };
    const preview = { sequences: 8, tokens: 4096, topKOverlap: 0.95, worstLayer, reapRank: 0.99 };
    await saveRoutingStatistics(file, { ...statistics, preview });
    expect(await loadRoutingStatistics(file)).toEqual({ ...statistics, preview });
  });

  const metadata = {
    schemaVersion: "1",
    kind: "reroute-routing-statistics",
    domainNames: '["x"]',
    layers: '[{"layer":0,"numExperts":4,"numExpertsPerToken":2,"hiddenSize":8}]',
  };
  const tokens = { dtype: "I64", shape: [1], data: new BigInt64Array(1) } as const;
  const rows: [string, Record<string, string>, RegExp][] = [
    ["another file", {}, /kind/],
    ["another version", { ...metadata, schemaVersion: "9" }, /version/],
    ["domains that are no list", { ...metadata, domainNames: "{" }, /domainNames/],
    ["absurd sizes", { ...metadata, layers: metadata.layers.replace("4", "1e99") }, /layers cannot be read/],
    ["a missing tensor", metadata, /frequency is nothing, expected I64 \[1, 4\]/],
  ];
  it.each(rows)("refuses %s", async (_name, meta, message) => {
    const file = path.join(folder, "bad.safetensors");
    await writeSafetensorsFile(file, new Map([["layers.0.tokens", tokens]]), meta);
    await expect(loadRoutingStatistics(file)).rejects.toThrow(message);
    await expect(loadRoutingStatistics(file)).rejects.toMatchObject({ code: "run/invalid" });
  });

  it("refuses bytes that are no safetensors file", async () => {
    const file = path.join(folder, "junk.safetensors");
    await writeFile(file, "junk");
    await expect(loadRoutingStatistics(file)).rejects.toMatchObject({
      code: expect.stringMatching(/^checkpoint\//) as string,
    });
  });
});
