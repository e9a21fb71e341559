import { describe, expect, test } from "vitest";
import { clipGlobalNorm, initAdamW, updateAdamW } from "../../../src/engine/distillation/adamW";

const start = { a: [0.5, -0.25, 1, 0], b: [2, -3] };
const gradients = [
  { a: [0.1, -0.2, 0.3, 0], b: [1.5, -2.5] },
  { a: [0.05, 0.4, -0.6, 1e-9], b: [0.01, 0.02] },
  { a: [-0.7, 0, 0.2, 1e-4], b: [-3, 4] },
];
const learningRates = [1e-2, 5e-3, 2e-3];

/** Printed by torch.optim.AdamW and clip_grad_norm_(1.0) of PyTorch 2.13 on the same numbers, f32. */
const norms = [2.939387559890747, 0.7231873869895935, 5.052721977233887];
const reference: [weightDecay: number, steps: { a: number[]; b: number[] }[]][] = [
  [
    0,
    [
      { a: [0.49000001, -0.24000001, 0.99000001, 0], b: [1.99000001, -2.99000001] },
      { a: [0.485039353, -0.243106499, 0.993106484, -0.00024577466], b: [1.98657739, -2.9867382] },
      { a: [0.485597104, -0.244067028, 0.993982017, -0.00152234349], b: [1.98685718, -2.986871] },
    ],
  ],
  [
    0.1,
    [
      { a: [0.489500016, -0.239749998, 0.989000022, 0], b: [1.98800004, -2.98699999] },
      { a: [0.484294593, -0.242736608, 0.991611958, -0.00024577466], b: [1.98358333, -2.98224473] },
      { a: [0.484755486, -0.243648589, 0.992289186, -0.00152229436], b: [1.98346651, -2.98178124] },
    ],
  ],
];
const moments = {
  m: { a: [-0.0065982407, 0.0304886494, -0.0417747162, 1.979221e-6], b: [-0.0171388034, 0.0120733529] },
  v: { a: [2.28456938e-5, 0.000164460376, 0.000371602655, 3.91695926e-13], b: [0.000612522126, 0.00134904636] },
};

const asMap = (parameters: { a: number[]; b: number[] }) =>
  new Map(Object.entries(parameters).map(([key, values]) => [key, Float32Array.from(values)]));

function expectClose(actual: ReadonlyMap<string, Float32Array>, expected: { a: number[]; b: number[] }): void {
  for (const [key, values] of asMap(expected)) {
    actual.get(key)!.forEach((value, i) => {
      expect(Math.abs(value - values[i]!)).toBeLessThanOrEqual(3e-7 * Math.max(Math.abs(values[i]!), 1e-6) + 1e-18);
    });
  }
}

describe("AdamW with clipping", () => {
  test.each(reference)("three steps with weight decay %f are PyTorch's", (weightDecay, steps) => {
    const parameters = asMap(start);
    const state = initAdamW(parameters);
    steps.forEach((expected, step) => {
      const gradient = asMap(gradients[step]!);
      expect(clipGlobalNorm(gradient, 1)).toBeCloseTo(norms[step]!, 6);
      updateAdamW(state, parameters, gradient, learningRates[step]!, weightDecay);
      expectClose(parameters, expected);
    });
    expect(state.step).toBe(3);
    expectClose(state.m, moments.m);
    expectClose(state.v, moments.v);
  });

  test("gradients below the limit stay, above it their norm becomes the limit", () => {
    const small = asMap({ a: [0.3, 0.4], b: [0] });
    expect(clipGlobalNorm(small, 1)).toBeCloseTo(0.5, 7);
    expect(Array.from(small.get("a")!)).toEqual([Math.fround(0.3), Math.fround(0.4)]);
    const large = asMap({ a: [30, 40], b: [0] });
    expect(clipGlobalNorm(large, 1)).toBeCloseTo(50, 5);
    expect(Math.hypot(...large.get("a")!)).toBeCloseTo(1, 6);
  });
});
