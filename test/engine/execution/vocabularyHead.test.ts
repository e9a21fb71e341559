import path from "node:path";
import { expect, test } from "vitest";
import { MemoryHiddenStates } from "../../../src/engine/execution/hiddenStates";
import { SessionCache } from "../../../src/engine/execution/sessionCache";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { createRandom } from "../../../src/engine/tensor/random";
import { openModel } from "../../support/tinyModels";

const positions = 24;

/** One run decodes the weights in its graph; of several, each is given them. */
test("a pass in several runs, with weights decoded once, gives the bytes of a pass in one", async () => {
  const source = await openModel(path.resolve("media/sample/checkpoint"));
  expect(source.description.head.weight.dtype).toBe("BF16");
  const width = source.description.hiddenSize;
  const states = (seed: number) => {
    const random = createRandom(seed);
    const hidden = new MemoryHiddenStates(positions, width);
    hidden.write(
      0,
      Float32Array.from({ length: positions * width }, () => random.normal()),
    );
    return hidden;
  };
  const labels = Int32Array.from({ length: positions }, (_, i) => (i * 37) % source.description.vocabSize);
  const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
  const passes = async (positionsPerRun: number) => {
    const sessions = new SessionCache(runtime, { keepFloat32Weights: false, sessionBytes: 1e9 }, 1);
    try {
      const head = new VocabularyHead(source, sessions, positionsPerRun, { source, sharedHead: true });
      const [hidden, teacherHidden] = [states(1), states(2)];
      const compared = await head.compare(hidden, teacherHidden, labels);
      const nll = await head.nll(hidden, labels);
      const rowWeights = new Float32Array(positions).fill(1 / positions);
      const options = { loss: "kd+lm", temperature: 2 } as const;
      const rowLoss = await head.lossAndGradient(hidden, { teacherHidden, labels }, rowWeights, options);
      return { ...compared, alone: nll, rowLoss, gradient: hidden.read(0, positions) };
    } finally {
      await sessions.close();
    }
  };
  const [one, several] = [await passes(positions), await passes(8)];
  expect(several).toEqual(one);
  expect(several.nll).toEqual(several.alone);
  expect(Math.max(...several.gradient.map(Math.abs))).toBeGreaterThan(0);
});
