import { describe, expect, test } from "vitest";
import { createRandom, shuffledOrder, splitmix64, xoshiro128 } from "../../../src/engine/tensor/random";

/** Values printed by the authors' C code (xoshiro128starstar.c, splitmix64.c). */
describe("published algorithms", () => {
  test("xoshiro128**", () => {
    const random = xoshiro128([1, 2, 3, 4]);
    const expected = [
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ];
    expect(expected.map(() => random.uint32())).toEqual(expected);
    const other = xoshiro128([0xdeadbeef, 0x12345678, 0x9abcdef0, 0x0badf00d]);
    for (let i = 0; i < 1000; i++) other.uint32();
    expect([1, 2, 3, 4].map(() => other.uint32())).toEqual([285280189, 3509135031, 4017953115, 1797157445]);
  });

  test("splitmix64", () => {
    const next = splitmix64(1234567n);
    const expected = [
      6457827717110365317n,
      3203168211198807973n,
      9817491932198370423n,
      4593380528125082431n,
      16408922859458223821n,
    ];
    expect(expected.map(() => next())).toEqual(expected);
  });
});

test("the stream of a seed never changes: resumed and repeated runs depend on it", () => {
  const random = createRandom(42);
  expect([1, 2, 3].map(() => random.uint32())).toEqual([1552505907, 4113083374, 3991650357]);
  expect(Array.from(shuffledOrder(10, 42, 0))).toEqual([8, 0, 1, 6, 3, 4, 2, 5, 9, 7]);
  expect(Array.from(shuffledOrder(10, 42, 1))).toEqual([9, 7, 8, 6, 2, 3, 5, 4, 1, 0]);
});

test("neighbouring seeds and streams share nothing", () => {
  const firsts = new Set<number>();
  for (let seed = -50; seed < 50; seed++)
    for (let stream = 0; stream < 50; stream++) firsts.add(createRandom(seed, stream).uint32());
  // 5000 draws of 2^32 values: the expected number of collisions is 0.003.
  expect(firsts.size).toBe(5000);
});

/** Pearson's statistic of counts that should be equal. */
function chiSquare(counts: number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

/** Upper 0.1 % point of the chi-square distribution (Wilson and Hilferty's approximation). */
function criticalValue(degrees: number): number {
  const spread = 2 / (9 * degrees);
  return degrees * (1 - spread + 3.09 * Math.sqrt(spread)) ** 3;
}

test.each([2, 3, 7, 10, 100, 1000])("below(%i) is uniform", (bound) => {
  const random = createRandom(7, bound);
  const counts = new Array<number>(bound).fill(0);
  for (let i = 0; i < 200_000; i++) counts[random.below(bound)]!++;
  expect(chiSquare(counts)).toBeLessThan(criticalValue(bound - 1));
});

test("below is unbiased where 2^32 is no multiple of the bound", () => {
  // Plain modulo would give the lower third of [0, 3 * 2^30) a probability of 1/2.
  const bound = 3 * 2 ** 30;
  const random = createRandom(1);
  const counts = [0, 0, 0];
  for (let i = 0; i < 30_000; i++) counts[Math.floor(random.below(bound) / 2 ** 30)]!++;
  expect(chiSquare(counts)).toBeLessThan(criticalValue(2));
});

test("uniform is in [0, 1) and uniform", () => {
  const random = createRandom(3);
  const counts = new Array<number>(100).fill(0);
  let outside = 0;
  for (let i = 0; i < 200_000; i++) {
    const value = random.uniform();
    if (value < 0 || value >= 1) outside++;
    counts[Math.floor(value * 100)]!++;
  }
  expect(outside).toBe(0);
  expect(chiSquare(counts)).toBeLessThan(criticalValue(99));
});

test("normal has the moments and quantiles of a standard normal", () => {
  const random = createRandom(5);
  const numDraws = 200_000;
  // Standard normal deciles.
  const deciles = [-1.2815516, -0.8416212, -0.5244005, -0.2533471, 0, 0.2533471, 0.5244005, 0.8416212, 1.2815516];
  const counts = new Array<number>(10).fill(0);
  const moments = [0, 0, 0, 0];
  for (let i = 0; i < numDraws; i++) {
    const value = random.normal();
    counts[deciles.filter((decile) => value > decile).length]!++;
    for (let power = 1; power <= 4; power++) moments[power - 1]! += value ** power / numDraws;
  }
  expect(chiSquare(counts)).toBeLessThan(criticalValue(9));
  // Four standard errors of each moment: sqrt(1, 2, 15, 96) / sqrt(n).
  const exact = [0, 1, 0, 3];
  const variances = [1, 2, 15, 96];
  moments.forEach((moment, i) =>
    expect(Math.abs(moment - exact[i]!)).toBeLessThan(4 * Math.sqrt(variances[i]! / numDraws)),
  );
});

describe("shuffledOrder", () => {
  test.each([0, 1, 2, 17, 1000])("is a permutation of %i items", (count) => {
    expect(Array.from(shuffledOrder(count, 1, 2)).sort((a, b) => a - b)).toEqual(
      Array.from({ length: count }, (_, i) => i),
    );
  });

  test("all 24 orders of 4 items are equally likely over epochs", () => {
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 24_000; epoch++) {
      const order = shuffledOrder(4, 42, epoch).join();
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    expect(chiSquare([...counts.values()])).toBeLessThan(criticalValue(23));
  });
});
