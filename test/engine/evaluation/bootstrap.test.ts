import { describe, expect, test } from "vitest";
import {
  bootstrapDifference,
  bootstrapMean,
  estimateMean,
  type SequenceSums,
} from "../../../src/engine/evaluation/bootstrap";
import { processorMs } from "../../support/processorTime";
import { createRandom } from "../../../src/engine/tensor/random";

const ones = (count: number) => new Float64Array(count).fill(1);

describe("cases to compute by hand", () => {
  test("the mean is the ratio of sums, so long sequences count for their tokens", () => {
    expect(bootstrapMean({ sums: [10, 2], tokens: [1, 3] }).mean).toBe(3);
  });

  test("equal sequences leave no uncertainty", () => {
    expect(bootstrapMean({ sums: [6, 4, 2], tokens: [3, 2, 1] })).toEqual({ mean: 2, interval95: [2, 2] });
  });

  test("one sequence has an interval of width 0", () => {
    expect(bootstrapMean({ sums: [3], tokens: [2] })).toEqual({ mean: 1.5, interval95: [1.5, 1.5] });
  });

  test("two sequences: 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4, so the interval is everything", () => {
    expect(bootstrapMean({ sums: [0, 1], tokens: [1, 1] })).toEqual({ mean: 0.5, interval95: [0, 1] });
  });

  test("0 or 1 in ten sequences: binomial quantiles", () => {
    // B(10, 1/2): P(X <= 1) = 1.07 %, P(X <= 2) = 5.47 %, so the 2.5 % quantile is 2 and the 97.5 % quantile 8.
    expect(bootstrapMean({ sums: [0, 0, 0, 0, 0, 1, 1, 1, 1, 1], tokens: ones(10) }).interval95).toEqual([0.2, 0.8]);
  });

  test("unequal counts: the resampled means are ratios", () => {
    // Draws (a, a), (a, b), (b, b) of a = 4/1 and b = 2/3 give 4, 6/4 and 2/3.
    const { mean, interval95 } = bootstrapMean({ sums: [4, 2], tokens: [1, 3] });
    expect(mean).toBe(1.5);
    expect(interval95).toEqual([2 / 3, 4]);
  });

  test("sequences of one document are drawn together", () => {
    const apart = { sums: [0, 3, 1, 1], tokens: [1, 1, 2, 2] };
    expect(bootstrapMean({ ...apart, units: [0, 0, 1, 1] })).toEqual(bootstrapMean({ sums: [3, 2], tokens: [2, 4] }));
    const paired = (sums: SequenceSums) => bootstrapDifference(new Float64Array(sums.sums.length), sums);
    expect(paired({ ...apart, units: [0, 0, 1, 1] })).toEqual(paired({ sums: [3, 2], tokens: [2, 4] }));
  });

  test("an estimate holds half the interval's width", () => {
    expect(estimateMean({ sums: [0, 1], tokens: [1, 1] })).toEqual({ mean: 0.5, halfWidth95: 0.5 });
  });
});

test("for many sequences the interval is that of the normal approximation", () => {
  const random = createRandom(9);
  const sums = Float64Array.from({ length: 1000 }, () => 5 + random.normal());
  const { mean, interval95 } = bootstrapMean({ sums, tokens: ones(1000) });
  const variance = sums.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 1000;
  const standardError = Math.sqrt(variance / 1000);
  // 10,000 resamples fix an end of the interval to about 2.6 % of a standard error (one sigma): 0.1 is almost four of them.
  expect(Math.abs((interval95[0] - mean) / standardError + 1.96)).toBeLessThan(0.1);
  expect(Math.abs((interval95[1] - mean) / standardError - 1.96)).toBeLessThan(0.1);
});

test("coverage is what the percentile bootstrap can give over 600 seeds, for skewed values and unequal lengths", () => {
  // Exponential values around 1 per token; each sequence has 20 to 60 tokens. True mean a token: 1.
  const numTrials = 600;
  let covered = 0;
  for (let seed = 0; seed < numTrials; seed++) {
    const random = createRandom(seed, 1);
    const tokens = Float64Array.from({ length: 64 }, () => 20 + random.below(41));
    const sums = tokens.map((count) => -Math.log(1 - random.uniform()) * count);
    const { interval95 } = bootstrapMean({ sums, tokens }, { resamples: 1000, seed });
    if (interval95[0] <= 1 && 1 <= interval95[1]) covered++;
  }
  // The percentile interval covers a little less than 95 % of so few and so skewed values: 93.0 % of 6000 other trials. Three
  // binomial standard errors of 600 trials are 3.1 %.
  expect(Math.abs(covered / numTrials - 0.93)).toBeLessThan(0.031);
});

describe("paired difference", () => {
  const random = createRandom(4);
  const tokens = Float64Array.from({ length: 40 }, () => 100 + random.below(156));
  const difficulty = tokens.map((count) => count * (3 + random.normal()));
  const after = difficulty.map((sum, s) => sum - tokens[s]! * 0.05 * (1 + 0.1 * random.normal()));

  test("what is hard for both cancels out", () => {
    const paired = bootstrapDifference(difficulty, { sums: after, tokens });
    expect(paired.mean).toBeGreaterThan(0.045);
    expect(paired.mean).toBeLessThan(0.055);
    expect(paired.interval95[0]).toBeGreaterThan(0.04);
    expect(paired.interval95[1]).toBeLessThan(0.06);
    // The same difference is invisible against the spread of either side.
    expect(estimateMean({ sums: difficulty, tokens }).halfWidth95).toBeGreaterThan(0.2);
  });

  test("swapping the sides negates everything exactly", () => {
    for (let seed = 0; seed < 20; seed++) {
      const there = bootstrapDifference(difficulty, { sums: after, tokens }, { seed, resamples: 500 + seed });
      const back = bootstrapDifference(after, { sums: difficulty, tokens }, { seed, resamples: 500 + seed });
      expect(back.mean).toBe(-there.mean);
      expect(back.interval95).toEqual([-there.interval95[1], -there.interval95[0]]);
    }
  });

  test("the seed decides, and only a little", () => {
    const run = (seed: number) => bootstrapDifference(difficulty, { sums: after, tokens }, { seed }).interval95;
    expect(run(1)).toEqual(run(1));
    expect(run(1)).not.toEqual(run(2));
    const [a, b] = [run(1), run(2)];
    expect(Math.abs(a[0] - b[0]) / (a[1] - a[0])).toBeLessThan(0.06);
  });
});

test("1000 sequences take well under a second", () => {
  const random = createRandom(2);
  const sums = Float64Array.from({ length: 1000 }, () => random.uniform());
  const started = processorMs();
  bootstrapMean({ sums, tokens: ones(1000) });
  expect(processorMs() - started).toBeLessThan(1500);
});

test.each<[string, number[], number[], number[]?]>([
  ["no sequence", [], []],
  ["different lengths", [1, 2], [1]],
  ["NaN", [1, NaN], [1, 1]],
  ["infinity", [Infinity], [1]],
  ["no tokens", [0, 1], [0, 1]],
  ["units of other sequences", [0, 1], [1, 1], [0]],
])("refused: %s", (_, sums, tokens, units?) => {
  expect(() => bootstrapMean({ sums, tokens, ...(units ? { units } : {}) })).toThrow(
    expect.objectContaining({ code: "internal" }) as Error,
  );
});
