import { expect, it } from "vitest";
import { describeSeries, spreadOf } from "../bench/series";

const MiB = 2 ** 20;

it.each([
  [[3], { median: 3, low: 3, high: 3, count: 1 }],
  [[5, 1, 3], { median: 3, low: 1, high: 5, count: 3 }],
  [[4, 1, 2, 10], { median: 3, low: 1, high: 10, count: 4 }],
])("the spread of %j", (values, expected) => {
  expect(spreadOf(values)).toEqual(expected);
});

const point = (size: number, peaks: number[], seconds: number[]) => ({
  size,
  peak: spreadOf(peaks.map((peak) => peak * MiB)),
  seconds: spreadOf(seconds),
});

it("a series is judged by its medians, not by a run that went astray", () => {
  const lines = describeSeries("layers", [
    point(4, [300, 310, 305], [4, 4, 9]),
    point(8, [330, 500, 320], [8, 8, 8]),
    point(16, [320, 321, 319], [16, 16, 16]),
  ]);
  expect(lines).toEqual([
    "against layers, medians of 3 (lowest to highest):",
    "       4  peak 305 MiB (300 MiB to 310 MiB), 1.00 x the lowest;  4.0 (4.0 to 9.0) s of processor time, +0 % off the line",
    "       8  peak 330 MiB (320 MiB to 500 MiB), 1.08 x the lowest;  8.0 (8.0 to 8.0) s of processor time, +0 % off the line",
    "      16  peak 320 MiB (319 MiB to 321 MiB), 1.05 x the lowest;  16.0 (16.0 to 16.0) s of processor time, +0 % off the line",
    "  memory: the highest median is 8 % above the lowest, flat within 15 %",
    "  time: at most 0 % off the line, linear within 15 %",
  ]);
});

it("says where a claim does not hold, and claims nothing of memory against experts", () => {
  const points = [point(4, [100], [1]), point(8, [116], [9]), point(16, [100], [4])];
  const layers = describeSeries("layers", points).slice(-2);
  expect(layers[0]).toBe("  memory: the highest median is 16 % above the lowest, flat NOT within 15 %");
  expect(layers[1]).toMatch(/linear NOT within 15 %$/);
  expect(describeSeries("experts", points).at(-2)).toBe("  memory: the highest median is 16 % above the lowest");
});
