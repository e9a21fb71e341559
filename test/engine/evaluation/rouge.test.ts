import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { stemOf } from "../../../src/engine/evaluation/rouge/porterStemmer";
import { scoreResponses } from "../../../src/engine/run/scoreResponses";
import { temporaryFolder } from "../../support/temporaryFolder";
import { bestRougeL, rougeL, rougeWords } from "../../../src/engine/evaluation/rouge/rougeL";

/** NLTK's stems and rouge_score's scores; make_rouge_goldens.py beside it made them. */
const golden = JSON.parse(readFileSync(path.join(import.meta.dirname, "../../fixtures/rouge/rouge.json"), "utf8")) as {
  stems: Record<string, string>;
  pairs: { target: string; prediction: string; tokens: string[][]; precision: number; recall: number; f: number }[];
};

describe("ROUGE-L", () => {
  test("every stem is NLTK's", () => {
    const wrong = Object.entries(golden.stems).filter(([word, stem]) => stemOf(word) !== stem);
    expect(wrong.map(([word, stem]) => `${word}: ${stemOf(word)}, expected ${stem}`)).toEqual([]);
    expect(Object.keys(golden.stems)).toHaveLength(2033);
  });

  test("words and scores of every pair are rouge_score's", () => {
    for (const { target, prediction, tokens, ...scores } of golden.pairs) {
      expect([rougeWords(target), rougeWords(prediction)], target).toEqual(tokens);
      const found = rougeL(target, prediction);
      for (const name of ["precision", "recall", "f"] as const)
        expect(found[name], `${name} of ${prediction}`).toBeCloseTo(scores[name], 12);
    }
    expect(golden.pairs).toHaveLength(47);
  });

  test("of several references the best counts", () => {
    expect(bestRougeL(["a dog", "the black cat"], "the cat").f).toBeCloseTo(0.8, 12);
  });
});

test("responses of a checkpoint are scored by seed, again the same, with the best of several references", async () => {
  const file = path.join(temporaryFolder(), "asked.jsonl");
  const rows = ["the", "a"].map((response) => ({ prompt: "Once upon", completion: ` ${response}` }));
  writeFileSync(file, rows.map((row) => JSON.stringify(row)).join("\n"));
  const checkpoint = path.join(import.meta.dirname, "../../../media/sample/checkpoint");
  const request = { checkpoint, data: file, most: 5, seeds: [1, 2], options: { maxNewTokens: 4 }, memory: "1GiB" };
  const run = () => scoreResponses(request, { onEvent: () => undefined });
  const { prompts, bySeed, mean, deviation } = await run();
  expect(prompts).toBe(1);
  expect(bySeed.map(({ seed }) => seed)).toEqual([1, 2]);
  const [a, b] = bySeed.map(({ rougeL }) => rougeL) as [number, number];
  expect(mean).toBeCloseTo((a + b) / 2, 12);
  expect(deviation).toBeCloseTo(Math.abs(a - b) / 2, 12);
  expect(await run()).toEqual({ prompts, bySeed, mean, deviation });
});
