import os from "node:os";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { goldenCheckpoint, readGolden, relativeToLargest } from "../../support/goldens";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

/** Every supported family against transformers; a new family's row appears by itself. */
describe.each([...families.keys()])("%s agrees with transformers", (family) => {
  test("logits, router logits, selected experts and routing weights", async () => {
    const checkpoint = await openCheckpoint(goldenCheckpoint(family));
    const { description } = describeModel(checkpoint);
    const golden = await readGolden(family);
    const ids = golden.get("input_ids")!;
    const [batch, positions] = ids.shape as [number, number];
    const results = await runForwardProbe({
      model: { checkpoint, description },
      teacher: null,
      inputIds: Int32Array.from(ids.values),
      batch,
      positions,
      runtime,
      scratchDirectory: os.tmpdir(),
    });
    const numbers = (name: string) => results.get(name)!.data as Float32Array;
    expect(relativeToLargest(numbers("logits"), golden.get("logits")!.values)).toBeLessThan(2e-4);
    const layers = [...golden.keys()].filter((name) => name.startsWith("router_logits."));
    expect(layers.length).toBeGreaterThan(0);
    for (const name of layers) {
      const layer = name.split(".")[1]!;
      expect(relativeToLargest(numbers(name), golden.get(name)!.values), name).toBeLessThan(2e-4);
      const selected = Array.from(results.get(`topk_ids.${layer}`)!.data as BigInt64Array, Number);
      expect(selected, `topk_ids.${layer}`).toEqual(golden.get(`topk_ids.${layer}`)!.values);
      const weights = `topk_weights.${layer}`;
      expect(relativeToLargest(numbers(weights), golden.get(weights)!.values), weights).toBeLessThan(2e-4);
    }
  });
});
