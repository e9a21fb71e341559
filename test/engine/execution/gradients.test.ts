import { describe, expect, test } from "vitest";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import type { MoeObservation } from "../../../src/engine/execution/observer";
import { Tape } from "../../../src/engine/execution/tape";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { attentionViews, feedForwardViews } from "../../../src/engine/execution/weightViews";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const sequences = randomSequences(8, 3, 10);
const labels = sequences.ids.map((id) => (id * 5 + 1) % 160);
const rowWeights = new Float32Array(sequences.ids.length).fill(1 / sequences.ids.length);

/**
 * Gradients of every weight of every layer, not of routers alone: moving all of a tensor along its gradient g by h changes
 * the loss by h |g|^2. Steps that make a token choose another expert are left out: the loss jumps there.
 */
describe.each(["qwen2_moe", "deepseek_v3", "gpt_oss"])("%s", (family) => {
  test("the loss changes along each weight's gradient as the gradient says", async () => {
    const model = await openModel(goldenCheckpoint(family));
    const layers = model.description.layers;
    const keys = layers.flatMap((layer) => [...attentionViews(layer), ...feedForwardViews(layer)].map(weightKey));
    const executor = await ModelExecutor.open({
      ...model,
      sequenceLength: 10,
      runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 4e9 },
      direction: "backward",
      scratchDirectory: temporaryFolder(),
      trainable: new Set(keys),
    });
    const head = new VocabularyHead(model, executor.sessions, executor.plan.headPositions);
    const lossOf = async () => {
      const tape = new Tape();
      const chosen: string[] = [];
      const observer = { observe: ({ selectedIds }: MoeObservation) => void chosen.push(selectedIds.join()) };
      const hidden = await executor.forward({ ids: sequences.ids }, { tape, observer });
      const choices = chosen.join(" ");
      const rows = await head.lossAndGradient(hidden, { teacherHidden: null, labels }, rowWeights, {
        loss: "lm",
        temperature: 1,
      });
      return { tape, hidden, choices, loss: rows.reduce((sum, loss) => sum + loss / rows.length, 0) };
    };
    const here = await lossOf();
    const gradients = await executor.backward(here.tape, here.hidden);
    expect([...gradients.keys()].sort()).toEqual([...new Set(keys)].sort());
    let compared = 0;
    for (const [key, gradient] of gradients) {
      const squared = gradient.reduce((sum, g) => sum + g * g, 0);
      // An expert that no token chose has no gradient; a tensor that hardly matters drowns in float32.
      if (squared < 1e-6) continue;
      const weights = executor.parameters.get(key)!;
      const original = weights.slice();
      const step = 4e-3 / Math.sqrt(squared);
      const moved = async (by: number) => {
        weights.forEach((_, i) => (weights[i] = original[i]! + by * gradient[i]!));
        return lossOf();
      };
      const [up, down] = [await moved(step), await moved(-step)];
      weights.set(original);
      if (up.choices !== here.choices || down.choices !== here.choices) continue;
      const ratio = (up.loss - down.loss) / (2 * step) / squared;
      expect(Math.abs(ratio - 1), key).toBeLessThan(0.01);
      compared++;
    }
    expect(compared).toBeGreaterThan(gradients.size / 4);
    await executor.close();
  });
});
