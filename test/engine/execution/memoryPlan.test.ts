import path from "node:path";
import { expect, it } from "vitest";
import { planExecution, smallestBudget } from "../../../src/engine/execution/memoryPlan";
import { workingSetBytes } from "../../../src/engine/execution/workingSet";
import { goldenCheckpoint } from "../../support/goldens";
import { openModel } from "../../support/tinyModels";

/** From the smallest budget to one that keeps widened weights: what is promised together never exceeds what there is. */
it.each(["forward", "backward"] as const)("a %s plan stays inside its budget", async (direction) => {
  const { description } = await openModel(path.resolve("media/sample/checkpoint"));
  const sequenceLength = 256;
  const least = smallestBudget(description, sequenceLength, direction);
  const kept = new Set<boolean>();
  for (let budget = least; budget < 64e9; budget *= 1.3) {
    const plan = planExecution(description, sequenceLength, budget, direction);
    const work = { description, sequenceLength, direction, trained: undefined };
    const together = plan.overheadBytes + workingSetBytes(work, plan) + plan.sessionBytes + plan.hiddenStateBytes;
    expect(together, `${Math.round(budget / 1e6)} MB`).toBeLessThanOrEqual(budget * (1 + 1e-9));
    kept.add(plan.keepFloat32Weights);
    // Copies that are kept have room beside the graphs: else each pass would make them anew.
    if (plan.keepFloat32Weights) expect(plan.sessionBytes).toBeGreaterThan(0.1 * (budget - plan.overheadBytes));
  }
  expect(kept).toEqual(new Set([false, true]));
});

it("sequences beyond what an index branch chooses whole are refused", async () => {
  const { description } = await openModel(goldenCheckpoint("deepseek_v32"));
  expect(() => planExecution(description, 64, 1e9, "forward")).not.toThrow();
  expect(() => planExecution(description, 65, 1e9, "forward")).toThrow(
    expect.objectContaining({
      code: "model/unsupported-option",
      message: expect.stringContaining("index_topk = 64") as string,
    }),
  );
});
