import { afterAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { weightCosineCost } from "../../../src/engine/compression/cost/weightCosineCost";
import { WeightCosine } from "../../../src/engine/compression/layer/weightCosine";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { ExpertWeights, WeightView } from "../../../src/engine/model/description";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { goldenFolder, readSafetensors, tensorOf } from "../model/goldens";
import path from "node:path";

const runtime = { provider: "cpu", threads: 1, memoryBudgetBytes: 2 ** 30 } as const;
const { signal } = new AbortController();
const opened: WeightCosine[] = [];
afterAll(() => Promise.all(opened.map((cosine) => cosine.close())));

async function golden(family: string) {
  const checkpoint = await openCheckpoint(path.join(goldenFolder(family), "checkpoint"));
  const { description } = describeModel(checkpoint);
  const { moe } = moeLayers(description)[0]!;
  const cosine = new WeightCosine(checkpoint, runtime);
  opened.push(cosine);
  return { moe, cosine, checkpoint };
}

/** The projections of an expert, read by the plain reader of the tests. */
function vectorOf(family: string, { gateUp, downProj }: ExpertWeights): number[] {
  const file = readSafetensors(path.join(goldenFolder(family), "checkpoint", "model.safetensors"));
  const linears =
    gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj, downProj] : [gateUp.projection, downProj];
  return linears.flatMap(({ weight: { tensor, offset, shape } }: { weight: WeightView }) => [
    ...tensorOf(file, tensor).values.subarray(offset, offset + shape.reduce((a, b) => a * b, 1)),
  ]);
}

describe("cosine of experts' weights", () => {
  it.each([...families.keys()])("%s: as by its definition, on numbers read another way", async (family) => {
    const { moe, cosine } = await golden(family);
    const matrix = (await cosine.ofLayer(moe.experts, signal))!;
    const vectors = moe.experts.map((expert) => vectorOf(family, expert));
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    const E = moe.numExperts;
    expect(matrix).toHaveLength(E * E);
    for (let i = 0; i < E; i++) {
      for (let j = 0; j < E; j++) {
        const expected =
          dot(vectors[i]!, vectors[j]!) / Math.sqrt(dot(vectors[i]!, vectors[i]!) * dot(vectors[j]!, vectors[j]!));
        expect(matrix[i * E + j]).toBeCloseTo(expected, 5);
        expect(matrix[i * E + j]).toBe(matrix[j * E + i]);
      }
      expect(matrix[i * E + i]).toBe(1);
    }
  });

  it("an expert twice is 1, and nothing is said of codes and constants", async () => {
    const { moe, cosine } = await golden("qwen3_moe");
    const [a, b] = [moe.experts[0]!, moe.experts[1]!];
    expect([...(await cosine.ofLayer([a, b, a], signal))!][2]).toBeCloseTo(1, 6);
    const constant = { ...b, constant: b.downProj.weight };
    expect(await cosine.ofLayer([a, constant], signal)).toBeNull();
    const scales = b.downProj.weight;
    const quantisation = { kind: "scaled" as const, scales, blockRows: 1, blockColumns: 1 };
    const coded = { ...b, downProj: { ...b.downProj, weight: { ...scales, quantisation } } };
    expect(await cosine.ofLayer([a, coded], signal)).toBeNull();
    expect(await cosine.ofLayer([], signal)).toBeNull();
  });

  it("its cost is what it does: products of all pairs, and each number once", async () => {
    const { checkpoint, moe } = await golden("qwen3_moe");
    const { description } = describeModel(checkpoint);
    const numbers = moe.experts.reduce((sum, expert) => sum + vectorOf("qwen3_moe", expert).length, 0);
    const layers = moeLayers(description).length;
    expect(weightCosineCost(description)).toMatchObject({
      float32: layers * 2 * moe.numExperts * numbers,
      plain: layers * 3 * numbers,
    });
  });

  it("stops when told to", async () => {
    const { moe, cosine } = await golden("olmoe");
    await expect(cosine.ofLayer(moe.experts, AbortSignal.abort())).rejects.toMatchObject({ code: "cancelled" });
  });
});
