import { expect, test } from "vitest";
import { tokenBatch } from "../../../../src/engine/execution/batches";
import { ModelExecutor } from "../../../../src/engine/execution/modelExecutor";
import { observedByAll } from "../../../../src/engine/execution/observer";
import { RoutingStatistics } from "../../../../src/engine/routing/collect";
import { TokenSampler } from "../../../../src/engine/routing/tokenSampler";
import { createRandom } from "../../../../src/engine/tensor/random";
import { goldenCheckpoint } from "../../../support/goldens";
import { buildThreadProgram } from "../../../support/buildThreadProgram";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { openModel } from "../../../support/tinyModels";

buildThreadProgram();

const [sequenceLength, numSequences] = [8, 11];
const runtime = { threads: 2, provider: "cpu", memoryBudgetBytes: 4e9 } as const;

/** Hidden states, statistics and samples of one pass, and the parts that threads did. */
async function pass(way: "one" | "several", shape: { collectOutputs: boolean; leaf: number; family: string }) {
  const model = await openModel(goldenCheckpoint(shape.family));
  const random = createRandom(7);
  const ids = Int32Array.from({ length: numSequences * sequenceLength }, () =>
    random.below(model.description.vocabSize),
  );
  const lengths = Int32Array.from({ length: numSequences }, (_, i) => (i % 3 === 1 ? 5 : sequenceLength));
  const sequences = {
    ...{ ids, numSequences, sequenceLength, lengths, sourceSha256: "" },
    ...{ domainIds: Uint8Array.from(ids, (_, t) => (t >> 4) % 2), domainNames: ["a", "b"] },
  };
  const leaves = { sequences: shape.leaf, perBlock: 4, sequenceLength };
  const scratchDirectory = temporaryFolder();
  const executor = await ModelExecutor.open({
    ...{ ...model, sequenceLength, runtime, scratchDirectory, direction: "forward", leaves, way },
  });
  const statistics = new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: true, leaves });
  const sampler = new TokenSampler(sequences, 1);
  const router = [...executor.parameters.keys()][0]!;
  executor.parameters.set(
    router,
    executor.parameters.get(router)!.map((value) => value * 1.5),
  );
  let tokens = 0;
  try {
    if (way === "several") await executor.sideBySide!.ready();
    const observer = observedByAll([statistics, sampler]);
    const { collectOutputs } = shape;
    using hidden = await executor.forward(tokenBatch(sequences), {
      ...{ observer, collectOutputs, onChunk: (count: number) => (tokens += count) },
    });
    const seen = [hidden.read(0, ids.length), statistics.result().layers, sampler.samples()];
    return { seen, tokens, parts: executor.sideBySide!.parts };
  } finally {
    await executor.close();
  }
}

test.each([
  { family: "qwen3_moe", collectOutputs: true, leaf: 2 },
  { family: "qwen3_moe", collectOutputs: false, leaf: 4 },
  { family: "deepseek_v3", collectOutputs: true, leaf: 3 },
])("a pass of $family is the same bytes in one executor and in several: $collectOutputs, $leaf", async (shape) => {
  const [one, several] = [await pass("one", shape), await pass("several", shape)];
  expect(several.seen).toEqual(one.seen);
  expect(several.tokens).toBe(one.tokens);
  expect(one.parts).toBe(0);
  expect(several.parts).toBeGreaterThan(1);
});
