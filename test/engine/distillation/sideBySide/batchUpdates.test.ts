import { expect, test } from "vitest";
import { BatchUpdates } from "../../../../src/engine/distillation/sideBySide/batchUpdates";
import { MemoryHiddenStates } from "../../../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../../../src/engine/execution/modelExecutor";
import { VocabularyHead } from "../../../../src/engine/execution/vocabularyHead";
import { createRandom } from "../../../../src/engine/tensor/random";
import { calibrateOptions } from "../../../../src/protocol/calibrateOptions";
import { goldenCheckpoint } from "../../../support/goldens";
import { buildThreadProgram } from "../../../support/buildThreadProgram";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { openModel } from "../../../support/tinyModels";

buildThreadProgram();

test("batches of any size give the same bytes in one executor and in several", async () => {
  const source = await openModel(goldenCheckpoint("qwen3_moe"));
  const [sequenceLength, options] = [8, calibrateOptions.parse({ loss: "kd+lm" })];
  const runtime = { threads: 2, provider: "cpu", memoryBudgetBytes: 4e9 } as const;
  const scratchDirectory = temporaryFolder();
  const executor = await ModelExecutor.open({
    ...{ ...source, sequenceLength, runtime, scratchDirectory, direction: "backward" },
  });
  const head = new VocabularyHead(source, executor.sessions, 64, { source, sharedHead: true }, executor.trained);
  const [one, several] = (["one", "several"] as const).map(
    (way) => new BatchUpdates({ executor, head, teacher: source, options, way }),
  ) as [BatchUpdates, BatchUpdates];
  try {
    await several.ready();
    for (const count of [2, 3, 5]) {
      const given = randomBatch(source.description, count, sequenceLength);
      const results = [];
      for (const updates of [one, several])
        results.push(await updates.lossAndGradients(given.batch, given.targets, null, undefined));
      expect(results[1]).toEqual(results[0]);
      expect(results[0]!.loss).toBeGreaterThan(0);
    }
    expect([one.sideBySideUpdates, several.sideBySideUpdates]).toEqual([0, 3]);
  } finally {
    for (const opened of [one, several, executor]) await opened.close();
  }
});

function randomBatch(model: { vocabSize: number; hiddenSize: number }, count: number, sequenceLength: number) {
  const random = createRandom(count);
  const { hiddenSize: width } = model;
  const ids = Int32Array.from({ length: count * sequenceLength }, () => random.below(model.vocabSize));
  const taught = Float32Array.from({ length: ids.length * width }, () => random.normal());
  const sequences = {
    ...{ ids, numSequences: count, sequenceLength, lengths: new Int32Array(count).fill(sequenceLength) },
    ...{ domainIds: new Uint8Array(ids.length), domainNames: ["text"], sourceSha256: "" },
  };
  const read = (numbers: ArrayLike<number>) => {
    const hidden = new MemoryHiddenStates(numbers.length * sequenceLength, width);
    const rows = sequenceLength * width;
    Array.from(numbers).forEach((n, i) => hidden.write(i * sequenceLength, taught.slice(n * rows, (n + 1) * rows)));
    return Promise.resolve(hidden);
  };
  const numbers = Array.from({ length: count }, (_, i) => i);
  return { batch: { sequences, numbers }, targets: { routerLogits: null, draws: [{ read }] } };
}
