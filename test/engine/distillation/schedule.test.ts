import { describe, expect, test } from "vitest";
import { learningRateAt } from "../../../src/engine/distillation/schedule";

/** The published run: 3000 sequences, 8 an update, 3 % of 375 updates is 11. */
const published = { learningRate: 5e-5, warmup: 0.03, schedule: "linear" } as const;
const cosine = { ...published, schedule: "cosine" } as const;

describe("learning rate of an update", () => {
  test.each([
    // Warm-up: (u + 1) / 11 of the peak, so that the first update already moves.
    [published, 0, 375, 5e-5 / 11],
    [published, 4, 375, (5e-5 * 5) / 11],
    [published, 10, 375, 5e-5],
    // Then transformers' get_linear_schedule_with_warmup(11, 375).
    [published, 11, 375, 5e-5],
    [published, 12, 375, 4.9862637362637363e-5],
    [published, 193, 375, 2.5e-5],
    [published, 374, 375, 1.3736263736263737e-7],
    // Half a cosine from the peak to a tenth of it.
    [cosine, 0, 375, 5e-5 / 11],
    [cosine, 11, 375, 5e-5],
    [cosine, 193, 375, 5e-5 * (0.1 + 0.9 * 0.5)],
    [cosine, 374, 375, 5e-5 * (0.1 + 0.45 * (1 - Math.cos(Math.PI / 364)))],
    // Few updates: the warm-up is one update at the full rate.
    [published, 0, 1, 5e-5],
    [published, 0, 20, 5e-5],
    [published, 19, 20, 5e-5 / 19],
    [{ ...published, warmup: 0 }, 0, 10, 5e-5],
    [{ ...published, warmup: 1 }, 9, 10, 5e-5],
  ])("%j, update %i of %i", (options, update, total, expected) => {
    expect(learningRateAt(update, total, options)).toBeCloseTo(expected, 15);
  });
});
