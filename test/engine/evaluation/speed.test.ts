import { expect, test } from "vitest";
import { bytesReadPerToken } from "../../../src/engine/evaluation/checkpointCost";
import { quantile } from "../../../src/engine/evaluation/passMeter";
import { measuredTokens, measureSpeed } from "../../../src/engine/evaluation/speed/measureSpeed";
import { modelEvaluation } from "../../../src/protocol/evaluation";
import { goldenCheckpoint } from "../../support/goldens";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

test("quantiles lie between the two nearest numbers", () => {
  for (const [share, expected] of [
    [0, 1],
    [0.5, 3],
    [0.9, 6.8],
    [1, 8],
  ] as const)
    expect(quantile([1, 2, 4, 8], share)).toBeCloseTo(expected, 12);
});

test("bytes that a token reads: all but the other experts and the other rows of the embedding", async () => {
  const { checkpoint, description } = await openModel(goldenCheckpoint("qwen3_moe"));
  const bytesOf = (pattern: RegExp) =>
    [...checkpoint.tensors.values()].reduce(
      (sum, { name, byteLength }) => sum + (pattern.test(name) ? byteLength : 0),
      0,
    );
  const [experts, embedding] = [bytesOf(/\.experts\./), bytesOf(/embed_tokens/)];
  const expected = bytesOf(/./) - (experts * 6) / 8 - embedding * (1 - 1 / description.vocabSize);
  const { feedForward } = description.layers[0]!;
  expect(feedForward.kind === "moe" && [feedForward.numExpertsPerToken, feedForward.numExperts]).toEqual([2, 8]);
  expect(bytesReadPerToken({ checkpoint, description })).toBeCloseTo(expected, 6);
});

test("one token and the batches that the text has, with what the machine reached", async () => {
  const model = await openModel(goldenCheckpoint("qwen3_moe"));
  const { ids } = randomSequences(1, 1, 40, { vocabSize: model.description.vocabSize });
  const steps: number[] = [];
  const speed = await measureSpeed({ model, ids, runtime, report: ({ done }) => steps.push(done) });
  expect(modelEvaluation.shape.cost.shape.speed.unwrap().parse(speed)).toEqual(speed);
  expect(speed.batches.map(({ tokens }) => tokens)).toEqual([1, 32]);
  expect(steps).toEqual(Array.from({ length: 2 * 22 }, (_, i) => i + 1));
  for (const { tokens, medianMs, p90Ms, tokensPerSecond, gemmShare } of speed.batches) {
    expect(medianMs).toBeGreaterThan(0);
    expect(p90Ms).toBeGreaterThanOrEqual(medianMs);
    expect(tokensPerSecond).toBeCloseTo((1e3 * tokens) / medianMs, 6);
    expect(gemmShare).toBeGreaterThan(0);
  }
  const { bandwidthShare, machine } = speed;
  const bytes = bytesReadPerToken(model);
  const seconds = speed.batches[0]!.medianMs / 1e3;
  expect(bandwidthShare * machine.copyBytesPerSecond * seconds).toBeCloseTo(bytes, 3);
  expect(measuredTokens).toBe(22 * (1 + 32 + 128 + 512) + 32);
});
