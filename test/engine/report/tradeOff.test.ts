import { expect, test } from "vitest";
import { amountOf } from "../../../src/engine/report/amount";
import { againstTeacher, frontOf } from "../../../src/engine/report/tradeOff";
import type { CheckpointCost } from "../../../src/protocol/evaluation";
import { intervalLow } from "../../../webview/common/charts/axis";

const cost = (bytes: number, tokensPerSecond: number | null): CheckpointCost => ({
  ...{ parametersTotal: 1, parametersActive: 1, flopsPerToken: 1, peakMemoryBytes: null },
  ...{ bytes, tokensPerSecond },
});

test("a quarter of the size at twice the speed, by hand", () => {
  expect(againstTeacher(cost(25, 200), cost(100, 100))).toEqual({
    sizeRatio: 0.25,
    timeRatio: 0.5,
    latencyRatio: null,
  });
  expect(againstTeacher(cost(25, null), cost(100, 100))).toEqual({
    sizeRatio: 0.25,
    timeRatio: null,
    latencyRatio: null,
  });
});

test.each([
  [{ method: "reap", keep: 0.625, options: {} }, "62.5 %"],
  [{ method: "reap", keep: 12, options: {} }, "12 experts"],
  [{ method: "wanda", keep: 0.5, options: {} }, "50 %"],
  [{ method: "rtn", keep: 0.625, options: { bits: 3 } }, "3 bits"],
  [{ method: "gptq", keep: 0.625, options: {} }, "4 bits"],
  [{ method: "fp8", keep: 0.625, options: {} }, "8 bits"],
  [{ method: "gptq", keep: 0.625, options: { allocate: "loss", bits: 3 } }, "3 bits on average"],
  [{ method: "awq", keep: 0.625, options: { allocate: "loss", budget: 3.5 } }, "3.5 bits on average"],
] as const)("what a recipe leaves, in words: %o is %s", (compress, words) => {
  expect(amountOf(compress)).toBe(words);
});

test("the front holds what no other beats in both", () => {
  const points = [
    { x: 1, y: 3 },
    { x: 2, y: 2 },
    { x: 2, y: 4 },
    { x: 3, y: 2 },
    { x: 4, y: 0 },
  ];
  expect([...frontOf(points)]).toEqual([points[0], points[1], points[4]]);
});

test("an interval of a KL is not drawn below 0, nor on a log axis below half", () => {
  expect(intervalLow(0.1, 0.3, { min: 0 })).toBe(0);
  expect(intervalLow(0.1, 0.04, { min: 0 })).toBeCloseTo(0.06, 12);
  expect(intervalLow(0.1, 0.3, { min: 0, log: true })).toBe(0.05);
  expect(intervalLow(2.9, 0.3, {})).toBeCloseTo(2.6, 12);
});
