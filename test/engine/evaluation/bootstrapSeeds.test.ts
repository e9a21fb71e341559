import { expect, test } from "vitest";
import { bootstrapMean } from "../../../src/engine/evaluation/bootstrap";
import { bootstrapSeeds } from "../../../src/engine/evaluation/bootstrapSeeds";
import { createRandom } from "../../../src/engine/tensor/random";

const tokens = new Float64Array(40).fill(10);
const random = createRandom(3);
const noise = (size: number) => Float64Array.from(tokens, () => 10 * (1 + size * random.normal()));

test("one seed is the bootstrap over sequences", () => {
  const sums = noise(0.3);
  expect(bootstrapSeeds({ sums: [sums], tokens })).toEqual(bootstrapMean({ sums, tokens }));
});

test("seeds that differ widen the interval although every sequence agrees, to that of seeds drawn with replacement", () => {
  // Two seeds, 0 and 2 nats a token everywhere: resampled means are 0, 1 or 2 with shares 1/4, 1/2, 1/4.
  const sums = [tokens.map(() => 0), tokens.map((count) => 2 * count)];
  expect(bootstrapSeeds({ sums, tokens })).toEqual({ mean: 1, interval95: [0, 2] });
});

test("units of several sequences stay together, and signs mirror", () => {
  const [a, b] = [noise(0.3), noise(0.3)];
  const units = Array.from(tokens.keys(), (s) => Math.floor(s / 4));
  const found = bootstrapSeeds({ sums: [a, b], tokens, units });
  const negated = bootstrapSeeds({ sums: [a, b].map((one) => one.map((value) => -value)), tokens, units });
  expect(negated.interval95).toEqual([-found.interval95[1], -found.interval95[0]]);
  const total = [...a, ...b].reduce((sum, value) => sum + value, 0);
  expect(found.mean).toBeCloseTo(total / 800, 12);
  expect(found.interval95[0]).toBeLessThan(found.mean);
  expect(found.interval95[1]).toBeGreaterThan(found.mean);
});
