import { readdirSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { denseFamilies } from "../../../src/engine/model/families/index";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { summariseCheckpoint } from "../../../src/engine/model/inspect";
import { requireExperts } from "../../../src/engine/model/requireExperts";
import { elementCount } from "../../../src/engine/tensor/dtype";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { copyInReleasedStyle, readGoldenFile, relativeToLargest } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const folder = path.join(import.meta.dirname, "../../fixtures/dense");
const names = readdirSync(folder);

test("every dense family has a golden checkpoint", () => {
  expect(names).toEqual([...denseFamilies.keys()]);
});

describe.each(names)("%s agrees with transformers", (name) => {
  const checkpointFolder = path.join(folder, name, "checkpoint");

  test("logits, loss and every gradient", async () => {
    const golden = await readGoldenFile(path.join(folder, name, "golden.safetensors"));
    const model = await openModel(checkpointFolder);
    const { values, shape } = golden.get("input_ids")!;
    const [batch, positions] = shape as [number, number];
    const inputIds = Int32Array.from(values);
    const scratchDirectory = temporaryFolder();
    const forward = await runForwardProbe({
      model,
      teacher: null,
      inputIds,
      batch,
      positions,
      runtime,
      scratchDirectory,
    });
    expect([...forward.keys()]).toEqual(["logits"]);
    const logits = forward.get("logits")!.data as Float32Array;
    expect(relativeToLargest(logits, golden.get("logits")!.values)).toBeLessThan(2e-4);

    const weights = trainableWeights(model.description, "all");
    const trainable = new Set(weights.map(({ key }) => key));
    const executor = await ModelExecutor.open({
      ...{ ...model, sequenceLength: positions, runtime, scratchDirectory, direction: "backward", trainable },
    });
    const head = new VocabularyHead({ ...model, trainable }, executor.sessions, 20, null, executor.trained);
    const lengths = new Int32Array(batch).fill(positions);
    const sequences = {
      ...{ ids: inputIds, numSequences: batch, sequenceLength: positions, lengths },
      ...{ domainIds: new Uint8Array(inputIds.length), domainNames: ["text"], sourceSha256: "" },
    };
    const options = calibrateOptions.parse({ loss: "lm" });
    const found = await lossAndGradients(executor, head, { sequences, numbers: [0, 1] }, null, options, undefined);
    await executor.close();
    expect(Math.abs(found.loss / golden.get("loss")!.values[0]! - 1)).toBeLessThan(1e-3);
    const tensors = new Map<string, Float32Array>();
    for (const { key, view } of weights) {
      const whole = elementCount(model.checkpoint.tensors.get(view.tensor)!.shape);
      const sum = tensors.get(view.tensor) ?? new Float32Array(whole);
      sum.set(found.gradients.get(key)!, view.offset);
      tensors.set(view.tensor, sum);
    }
    const expected = [...golden.keys()].filter((key) => key.startsWith("grad.")).sort();
    expect([...tensors.keys()].map((tensor) => `grad.${tensor}`).sort()).toEqual(expected);
    for (const [tensor, gradient] of tensors)
      expect(relativeToLargest(gradient, golden.get(`grad.${tensor}`)!.values), tensor).toBeLessThan(2e-3);
  });

  test("it is described as dense, alike in released style, and has nothing to compress", async () => {
    const model = await openModel(checkpointFolder);
    const released = path.join(temporaryFolder(), name);
    copyInReleasedStyle(checkpointFolder, released);
    expect((await openModel(released)).description).toEqual(model.description);
    expect(model.description.unusedTensors).toEqual([]);
    expect(() => requireExperts(model.description, "compress")).toThrow(
      expect.objectContaining({ code: "model/not-moe", message: expect.stringContaining(name) as unknown }),
    );
    const { supported, isDense, unsupportedReason } = await summariseCheckpoint(model.checkpoint);
    expect({ supported, isDense }).toEqual({ supported: false, isDense: true });
    expect(unsupportedReason).toContain(`this is a dense model (${name})`);
  });
});
