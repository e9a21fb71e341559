import { expect, it } from "vitest";
import { allocate, type AllocationItem } from "../../../src/engine/compression/quantising/allocation";
import { createRandom } from "../../../src/engine/tensor/random";

const bytes = [200, 300, 400, 800];
function randomItems(seed: number, count: number, sizes: readonly number[]): AllocationItem[] {
  const random = createRandom(seed);
  const number = () => random.below(10_000) / 1000;
  return Array.from({ length: count }, () => {
    const scale = 1 + random.below(3);
    const sorted = sizes.map(number).sort((a, b) => b - a);
    return { losses: sorted, bytes: sizes.map((size) => size * scale) };
  });
}

const sum = (items: readonly AllocationItem[], chosen: readonly number[], field: keyof AllocationItem) =>
  items.reduce((total, item, i) => total + item[field][chosen[i]!]!, 0);

/** Every choice of all items. */
function leastByTrying(items: readonly AllocationItem[], budget: number): number {
  const tryFrom = (at: number, loss: number, used: number): number => {
    if (used > budget) return Infinity;
    if (at === items.length) return loss;
    const { losses, bytes: sizes } = items[at]!;
    return Math.min(...losses.map((own, choice) => tryFrom(at + 1, loss + own, used + sizes[choice]!)));
  };
  return tryFrom(0, 0, 0);
}

it("six experts with three widths each: the least of all choices, never above the budget, for a hundred seeds", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const items = randomItems(seed, 6, bytes.slice(0, 3));
    const smallest = items.reduce((total, { bytes: own }) => total + own[0]!, 0);
    const budget = smallest + (createRandom(seed).below(12) * smallest) / 10;
    const chosen = allocate(items, budget);
    expect(sum(items, chosen, "bytes")).toBeLessThanOrEqual(budget);
    expect(sum(items, chosen, "losses")).toBeCloseTo(leastByTrying(items, budget), 9);
  }
});

it("the budget of one width for all never loses more than that width", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const items = randomItems(seed, 40, bytes);
    for (const choice of bytes.keys()) {
      const uniform = items.map(() => choice);
      const chosen = allocate(items, sum(items, uniform, "bytes"));
      expect(sum(items, chosen, "losses")).toBeLessThanOrEqual(sum(items, uniform, "losses") + 1e-9);
    }
  }
});

it("a case by hand: the byte that is left goes where it helps more, and nothing is spent for nothing", () => {
  const items = [
    { losses: [10, 4], bytes: [1, 2] },
    { losses: [10, 1], bytes: [1, 2] },
    { losses: [3, 3], bytes: [1, 2] },
  ];
  expect(allocate(items, 4)).toEqual([0, 1, 0]);
  expect(allocate(items, 100)).toEqual([1, 1, 0]);
  expect(() => allocate(items, 2.5)).toThrow(expect.objectContaining({ code: "plan/invalid" }));
});

it("sizes without a common unit stay within the budget", () => {
  const items = randomItems(7, 50, [1_000_003, 1_700_021, 2_999_999]);
  const budget = 120_000_000;
  const chosen = allocate(items, budget);
  expect(sum(items, chosen, "bytes")).toBeLessThanOrEqual(budget);
  expect(sum(items, chosen, "bytes")).toBeGreaterThan(budget * 0.97);
});
