import { describe, expect, test } from "vitest";
import { compareBeforeAfter, describeComparison } from "../../../src/engine/evaluation/verdict";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { comparison as comparisonSchema } from "../../../src/protocol/evaluation";

const tens = (count: number) => new Float64Array(count).fill(10);
const kl = (before: ArrayLike<number>, after: ArrayLike<number>) =>
  compareBeforeAfter({ metric: "klToTeacher", before, after, tokens: tens(before.length) });
const repeat = (values: number[], times: number) =>
  Array.from({ length: values.length * times }, (_, i) => values[i % values.length]!);

describe("cases to compute by hand", () => {
  test("every sequence gains the same", () => {
    const result = kl(repeat([2, 4], 10), repeat([1, 3], 10));
    expect(result).toEqual({
      metric: "klToTeacher",
      before: 0.3,
      after: 0.2,
      gain: 0.1,
      gainInterval95: [0.1, 0.1],
      recoveredShare: expect.closeTo(1 / 3, 12) as number,
      verdict: "recovered",
      units: 20,
      resamples: 10_000,
    });
    expect(comparisonSchema.parse(result)).toEqual(result);
  });

  test.each<[string, number[], number[], string]>([
    ["all better", repeat([2], 20), repeat([1], 20), "recovered"],
    ["all worse", repeat([1], 20), repeat([2], 20), "worse"],
    ["identical", repeat([1, 2], 10), repeat([1, 2], 10), "no gain"],
    ["as many better as worse", repeat([2, 1], 10), repeat([1, 2], 10), "no gain"],
    // Resamples without the one that loses err by 0.1 with a standard error of 0.2 / sqrt(20), so 0.9 - 2.2 * 0.1 is an end.
    ["almost all better", repeat([2], 20), [3, ...repeat([0.8, 1.2, 1, 1.2, 0.8], 4).slice(1)], "recovered"],
    // Three of two values may all be missing from a resample, which then has no spread at all.
    ["three lose, all others gain the same", repeat([2], 20), [...repeat([3], 3), ...repeat([1], 17)], "no gain"],
    // Of 12 and eight: sqrt(0.96 / 19) = 0.225 of a gain of 0.2.
    ["most better", repeat([2], 20), [...repeat([3], 8), ...repeat([1], 12)], "no gain"],
    ["19 sequences are too few, however clear", repeat([2], 19), repeat([1], 19), "too little text"],
    ["one sequence says nothing", [2], [1], "too little text"],
  ])("%s", (_, before, after, verdict) => {
    expect(kl(before, after).verdict).toBe(verdict);
  });

  test.each([
    ["20 documents of two sequences", 40, 2, 20, "recovered"],
    ["19 documents of four sequences", 76, 4, 19, "too little text"],
  ])("%s", (_, count, perDocument, units, verdict) => {
    const compared = { before: repeat([2], count), after: repeat([1], count), tokens: tens(count) };
    const unitOf = Array.from(compared.before, (_sum, s) => Math.floor(s / perDocument));
    expect(compareBeforeAfter({ metric: "klToTeacher", ...compared, units: unitOf })).toMatchObject({ units, verdict });
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

/** Gains without any effect: normal ones, and skewed ones of which most are small and few are large losses. */
const withoutEffect = {
  normal: (random: Random) => random.normal(),
  skewed: (random: Random) => 1 + Math.log(1 - random.uniform()),
};

/** About 2.5 % each; 1000 trials have a standard error of 0.5 %. The percentile bootstrap of 20 skewed gains has 7.5 % on one side. */
test.each([
  ["normal", 20, 1000],
  ["normal", 96, 400],
  ["skewed", 20, 1000],
  ["skewed", 96, 600],
] as const)(
  "no effect, %s gains of %i sequences: recovered and worse in at most 35 of 1000 each",
  (kind, n, numTrials) => {
    const found = { recovered: 0, worse: 0, "no gain": 0, "too little text": 0 };
    const tokens = tens(n);
    const after = new Float64Array(n);
    for (let seed = 0; seed < numTrials; seed++) {
      const random = createRandom(seed, n);
      const before = after.map(() => withoutEffect[kind](random));
      found[compareBeforeAfter({ metric: "klToTeacher", before, after, tokens }, { resamples: 500, seed }).verdict]++;
    }
    expect(found["too little text"]).toBe(0);
    expect(found.recovered / numTrials).toBeLessThanOrEqual(0.035);
    expect(found.worse / numTrials).toBeLessThanOrEqual(0.035);
    // It is no good either to say nothing whatever happens.
    expect((found.recovered + found.worse) / numTrials).toBeGreaterThan(0.02);
  },
);

/** Gains of 64 sequences: a true gain a token plus noise, on top of a difficulty that both sides share. */
function trial(seed: number, trueGain: number) {
  const random = createRandom(seed, 77);
  const tokens = tens(64);
  const before = tokens.map((count) => count * (1 + 0.5 * random.uniform()));
  const after = before.map((sum) => sum - 10 * (trueGain + 0.1 * random.normal()));
  return { metric: "klToTeacher" as const, before, after, tokens };
}

test("the gain's interval covers the truth: 600 seeds", () => {
  const numTrials = 600;
  let covered = 0;
  for (let seed = 0; seed < numTrials; seed++) {
    const something = compareBeforeAfter(trial(seed + numTrials, 0.02), { resamples: 1000, seed });
    if (something.gainInterval95[0] <= 0.02 && 0.02 <= something.gainInterval95[1]) covered++;
  }
  // Tails of 2.5 % (1 - 2 / 8); three binomial standard errors of 600 trials are 2.3 %.
  expect(Math.abs(covered / numTrials - 0.9625)).toBeLessThan(0.023);
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
  const opposite = { recovered: "worse", worse: "recovered", "no gain": "no gain", "too little text": "" } as const;
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
    kl(repeat([2, 4], 10), repeat([1, 3], 10)),
    "Recovered: KL to the teacher went from 0.3000 to 0.2000 nats a token, a gain of 0.1000 (95 % interval 0.1000 to 0.1000), 33.3 % of what compression cost.",
  ],
  [
    "worse",
    compareBeforeAfter({ metric: "nllPerToken", before: repeat([30], 20), after: repeat([31], 20), tokens: tens(20) }),
    "Worse: Loss went from 3.0000 to 3.1000 nats a token, a loss of 0.1000 (gain -0.1000, 95 % interval -0.1000 to -0.1000).",
  ],
  [
    "no gain",
    kl(repeat([2], 20), repeat([2], 20)),
    "No gain: KL to the teacher went from 0.2000 to 0.2000 nats a token, a difference of 0 (95 % interval 0 to 0); the interval includes 0, so the difference is within noise.",
  ],
  [
    "too few",
    kl([0.02, 0.02], [0.01, 0.01]),
    "Too little text: KL to the teacher went from 0.0020 to 0.0010 nats a token, a difference of 0.0010 (95 % interval 0.0010 to 0.0010); a verdict needs at least 20 held-out sequences, and whole documents where one spans several: there are 2.",
  ],
  [
    "a single one",
    kl([0.02], [0.01]),
    "Too little text: KL to the teacher went from 0.0020 to 0.0010 nats a token, a difference of 0.0010 (a single sequence or document has no interval); a verdict needs at least 20 held-out sequences, and whole documents where one spans several: there is 1.",
  ],
  [
    "trained on",
    { ...kl(repeat([2], 20), repeat([2], 20)), trainedOn: 0.5 },
    "No gain: KL to the teacher went from 0.2000 to 0.2000 nats a token, a difference of 0 (95 % interval 0 to 0); the interval includes 0, so the difference is within noise. 50 % of the evaluation text was trained on, so this says nothing about new text.",
  ],
])("sentence: %s", (_, comparison, sentence) => {
  expect(describeComparison(comparison)).toBe(sentence);
});

test("mismatched sequences are a defect, not a verdict", () => {
  expect(() => kl([1, 2], [1])).toThrow(expect.objectContaining({ code: "internal" }) as Error);
});
