import { describe, expect, test } from "vitest";
import { compareBeforeAfter, describeComparison } from "../../../src/engine/evaluation/verdict";
import { createRandom } from "../../../src/engine/tensor/random";
import { comparison as comparisonSchema } from "../../../src/protocol/evaluation";

const tens = (count: number) => new Float64Array(count).fill(10);
const kl = (before: ArrayLike<number>, after: ArrayLike<number>) =>
  compareBeforeAfter({ metric: "klToTeacher", before, after, tokens: tens(before.length) });
const repeat = (values: number[], times: number) =>
  Array.from({ length: values.length * times }, (_, i) => values[i % values.length]!);

describe("cases to compute by hand", () => {
  test("every sequence gains the same", () => {
    const result = kl(repeat([2, 4], 5), repeat([1, 3], 5));
    expect(result).toEqual({
      metric: "klToTeacher",
      before: 0.3,
      after: 0.2,
      gain: 0.1,
      gainInterval95: [0.1, 0.1],
      recoveredShare: expect.closeTo(1 / 3, 12) as number,
      verdict: "recovered",
      resamples: 10_000,
    });
    expect(comparisonSchema.parse(result)).toEqual(result);
  });

  test.each<[string, number[], number[], string]>([
    ["all better", repeat([2], 10), repeat([1], 10), "recovered"],
    ["all worse", repeat([1], 10), repeat([2], 10), "worse"],
    ["identical", repeat([1, 2, 3], 4), repeat([1, 2, 3], 4), "no gain"],
    // Gains 1 and -1 five times each: the interval is [-0.06, 0.06] by the binomial quantiles 2 and 8 of 10.
    ["as many better as worse", repeat([2, 1], 5), repeat([1, 2], 5), "no gain"],
    // Nine of ten gain 1, one loses 1: the 2.5 % quantile of B(10, 0.9) is 7, a mean gain of 0.04.
    ["almost all better", repeat([2], 10), [2 + 1, ...repeat([1], 9)], "recovered"],
    // Seven of ten: the 2.5 % quantile of B(10, 0.7) is 4, a mean gain of -0.02.
    ["most better", repeat([2], 10), [...repeat([3], 3), ...repeat([1], 7)], "no gain"],
    ["five sequences are too few, however clear", repeat([2], 5), repeat([1], 5), "no gain"],
    ["six are enough when clear", repeat([2], 6), repeat([1], 6), "recovered"],
    ["one sequence says nothing", [2], [1], "no gain"],
  ])("%s", (_, before, after, verdict) => {
    expect(kl(before, after).verdict).toBe(verdict);
  });

  test("the interval of mixed gains", () => {
    expect(kl(repeat([2, 1], 5), repeat([1, 2], 5)).gainInterval95).toEqual([
      expect.closeTo(-0.06, 12),
      expect.closeTo(0.06, 12),
    ]);
    expect(kl(repeat([2], 10), [3, ...repeat([1], 9)]).gainInterval95).toEqual([
      expect.closeTo(0.04, 12),
      expect.closeTo(0.1, 12),
    ]);
  });

  test("identical inputs: gain 0, interval [0, 0]", () => {
    const values = Array.from({ length: 50 }, (_, i) => Math.sin(i) ** 2 * 1e3);
    expect(kl(values, values)).toMatchObject({
      gain: 0,
      gainInterval95: [0, 0],
      recoveredShare: 0,
      verdict: "no gain",
    });
  });

  test("nothing to recover", () => {
    expect(kl([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]).recoveredShare).toBe(0);
  });

  test("sequences of unequal length count by token", () => {
    const result = compareBeforeAfter({ metric: "nllPerToken", before: [10, 2], after: [6, 2], tokens: [1, 3] });
    expect(result).toMatchObject({ before: 3, after: 2, gain: 1 });
  });
});

/** Gains of 64 sequences: a true gain a token plus noise, on top of a difficulty that both sides share. */
function trial(seed: number, trueGain: number) {
  const random = createRandom(seed, 77);
  const tokens = tens(64);
  const before = tokens.map((count) => count * (1 + 0.5 * random.uniform()));
  const after = before.map((sum) => sum - 10 * (trueGain + 0.1 * random.normal()));
  return { metric: "klToTeacher" as const, before, after, tokens };
}

test("the gain's interval covers the truth, and a calibration that does nothing is seldom praised: 600 seeds", () => {
  const numTrials = 600;
  const found = { covered: 0, recovered: 0, worse: 0 };
  for (let seed = 0; seed < numTrials; seed++) {
    const nothing = compareBeforeAfter(trial(seed, 0), { resamples: 1000, seed });
    if (nothing.verdict !== "no gain") found[nothing.verdict]++;
    const something = compareBeforeAfter(trial(seed + numTrials, 0.02), { resamples: 1000, seed });
    if (something.gainInterval95[0] <= 0.02 && 0.02 <= something.gainInterval95[1]) found.covered++;
  }
  // Expected 94.4 % for 64 normal values; three binomial standard errors of 600 trials are 2.8 %, and for a share of 2.8 %, 2 %.
  expect(Math.abs(found.covered / numTrials - 0.944)).toBeLessThan(0.028);
  expect(Math.abs(found.recovered / numTrials - 0.028)).toBeLessThan(0.02);
  expect(Math.abs(found.worse / numTrials - 0.028)).toBeLessThan(0.02);
});

test("a gain of four standard errors is found almost always", () => {
  // Standard error 0.1 / sqrt(64) = 0.0125; a gain of 0.05 is missed with a probability of about 2 %.
  let recovered = 0;
  for (let seed = 0; seed < 200; seed++) {
    if (compareBeforeAfter(trial(seed, 0.05), { resamples: 1000, seed }).verdict === "recovered") recovered++;
  }
  expect(recovered).toBeGreaterThan(200 * 0.94);
});

test("swapping before and after turns the verdict around", () => {
  const opposite = { recovered: "worse", worse: "recovered", "no gain": "no gain" } as const;
  for (let seed = 0; seed < 30; seed++) {
    const { before, after, ...rest } = trial(seed, 0.02 * ((seed % 5) - 2));
    const there = compareBeforeAfter({ ...rest, before, after }, { resamples: 1000 });
    const back = compareBeforeAfter({ ...rest, before: after, after: before }, { resamples: 1000 });
    expect(back.gain).toBe(-there.gain);
    expect(back.gainInterval95).toEqual([-there.gainInterval95[1], -there.gainInterval95[0]]);
    expect(back.verdict).toBe(opposite[there.verdict]);
  }
});

test.each<[string, ReturnType<typeof kl>, string]>([
  [
    "recovered",
    kl(repeat([2, 4], 5), repeat([1, 3], 5)),
    "Recovered: KL to the teacher went from 0.3000 to 0.2000 nats a token, a gain of 0.1000 (95 % interval 0.1000 to 0.1000), 33.3 % of what compression cost.",
  ],
  [
    "worse",
    compareBeforeAfter({ metric: "nllPerToken", before: repeat([30], 8), after: repeat([31], 8), tokens: tens(8) }),
    "Worse: Loss went from 3.0000 to 3.1000 nats a token, a loss of 0.1000 (gain -0.1000, 95 % interval -0.1000 to -0.1000).",
  ],
  [
    "no gain",
    kl(repeat([2], 8), repeat([2], 8)),
    "No gain: KL to the teacher went from 0.2000 to 0.2000 nats a token, a difference of 0 (95 % interval 0 to 0); the interval includes 0, so the difference is within noise.",
  ],
  [
    "too few",
    kl([0.02, 0.02], [0.01, 0.01]),
    "No gain: KL to the teacher went from 0.0020 to 0.0010 nats a token, a difference of 0.0010 (95 % interval 0.0010 to 0.0010); fewer than 6 held-out sequences are too few to tell.",
  ],
])("sentence: %s", (_, comparison, sentence) => {
  expect(describeComparison(comparison)).toBe(sentence);
});

test("mismatched sequences are a defect, not a verdict", () => {
  expect(() => kl([1, 2], [1])).toThrow(expect.objectContaining({ code: "internal" }) as Error);
});
