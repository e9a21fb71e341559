import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { draw, nextToken, tokenWeights, type SamplingSettings } from "../../../src/engine/generation/sampling";
import { keyedRandom } from "../../../src/engine/tensor/random";

const plain: SamplingSettings = {
  ...{ doSample: true, temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
};

interface Row {
  settings: { temperature?: number; top_k?: number; top_p?: number; min_p?: number; repetition_penalty?: number };
  logits: number[];
  seen: number[];
  probabilities: number[];
}

/** Ids that may come, and their probabilities. */
function possible(weights: Float64Array) {
  const total = weights.reduce((sum, weight) => sum + weight);
  const ids = Array.from(weights.keys()).filter((id) => weights[id]! > 0);
  return { ids, shares: ids.map((id) => weights[id]! / total) };
}

const rows = JSON.parse(
  readFileSync(path.join(import.meta.dirname, "../../fixtures/generation/sampling.json"), "utf8"),
) as Row[];

test.each(rows)(
  "probabilities are those of transformers' processors, $settings",
  ({ settings, logits, seen, probabilities }) => {
    const given: SamplingSettings = {
      ...plain,
      temperature: settings.temperature ?? 1,
      topK: settings.top_k ?? 0,
      topP: settings.top_p ?? 1,
      minP: settings.min_p ?? 0,
      repetitionPenalty: settings.repetition_penalty ?? 1,
    };
    const { ids, shares } = possible(tokenWeights(Float32Array.from(logits), given, seen));
    expect(ids).toEqual(probabilities.flatMap((share, id) => (share > 0 ? [id] : [])));
    for (const [i, id] of ids.entries()) expect(shares[i]).toBeCloseTo(probabilities[id]!, 6);
  },
);

describe("rules by hand", () => {
  const choose = (logits: number[], settings: Partial<SamplingSettings>, banned: number[] = []) =>
    possible(tokenWeights(Float32Array.from(logits), { ...plain, ...settings }, [], banned)).ids;

  test.each([
    ["top_k keeps those equal to the last", [1, 2, 2, 3], { topK: 2 }, [1, 2, 3]],
    ["top_k of 0 keeps all", [1, 2, 3], { topK: 0 }, [0, 1, 2]],
    ["top_k beyond the vocabulary keeps all", [1, 2, 3], { topK: 9 }, [0, 1, 2]],
    ["top_p keeps at least one", [1, 2, 3], { topP: 1e-9 }, [2]],
    ["top_p stops where the share is reached", [Math.log(0.5), Math.log(0.3), Math.log(0.2)], { topP: 0.79 }, [0, 1]],
    ["of equal tokens top_p keeps the lower ids", [0, 0, 0, 0], { topP: 0.5 }, [0, 1]],
    ["min_p is a share of the largest", [Math.log(0.6), Math.log(0.3), Math.log(0.1)], { minP: 0.4 }, [0, 1]],
  ] as const)("%s", (_, logits, settings, expected) => {
    expect(choose([...logits], settings)).toEqual(expected);
  });

  test("banned tokens never come", () => expect(choose([5, 1, 1], {}, [0])).toEqual([1, 2]));

  test("without sampling the lower of two equal ids is taken, after the penalty", () => {
    const greedy = { ...plain, doSample: false };
    expect(nextToken(Float32Array.of(1, 3, 3), greedy, [], [], 0.9)).toBe(1);
    expect(nextToken(Float32Array.of(1, 3, 3), { ...greedy, repetitionPenalty: 2 }, [1], [], 0.9)).toBe(2);
    expect(nextToken(Float32Array.of(-1, -3), { ...greedy, repetitionPenalty: 4 }, [0], [], 0.9)).toBe(1);
  });
});

test("100,000 draws come as often as their probabilities say, within four standard deviations", () => {
  const weights = tokenWeights(Float32Array.of(2, -1, 0.5, 1.5, -3, 0), plain, []);
  const { ids, shares } = possible(weights);
  const draws = 100_000;
  const counts = new Map<number, number>();
  for (let i = 0; i < draws; i++) {
    const id = draw(weights, keyedRandom(3, i % 10, 0, Math.floor(i / 10)).uniform());
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  for (const [i, id] of ids.entries()) {
    const share = shares[i]!;
    const deviation = Math.sqrt(draws * share * (1 - share));
    expect(Math.abs((counts.get(id) ?? 0) - draws * share), `token ${id}`).toBeLessThan(4 * deviation);
  }
});
