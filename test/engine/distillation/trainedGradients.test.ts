import path from "node:path";
import { describe, expect, test } from "vitest";
import { calibrateOptions, type CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { readFileSync } from "node:fs";
import { expertMapping } from "../../../src/engine/compression/plan/expertMapping";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { logitMapping } from "../../../src/engine/distillation/routerLogits";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { readProvenance } from "../../../src/engine/run/stages/outputs";
import { elementCount } from "../../../src/engine/tensor/dtype";
import { goldenCase } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, sequencesOf, writeStudentOf } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

/** What PyTorch found: by model and loss, of each tensor the norm of its gradient g and sum_i g_i cos(i). */
type Numbers = Record<string, Record<string, { loss: number; tensors: Record<string, [number, number]> }>>;
const numbers = JSON.parse(
  readFileSync(path.join(import.meta.dirname, "../../fixtures/trained-gradients/trainedGradients.json"), "utf8"),
) as Numbers;

/** Losses as the fixture has them. */
const options: Record<string, Partial<CalibrateOptions>> = {
  lm: { loss: "lm" },
  kd: { loss: "kd", temperature: 2 },
  "router-logits": { loss: "router-logits" },
};

/** Attention with and without biases and latent, sinks, shared experts, dense layers, fused experts, tied embeddings. */
describe.each(Object.keys(numbers))("%s", (name) => {
  test.each(Object.keys(options))("%s: loss and the gradient of every tensor are PyTorch's", async (loss) => {
    const folder = temporaryFolder();
    const student = await writeStudentOf(goldenCase(name), path.join(folder, "student"));
    const teacher = await openModel(goldenCase(name).checkpoint);
    const sequences = await sequencesOf(goldenCase(name));
    const plan = (await readProvenance(student.checkpoint.directory))!.plan;
    const mapping = expertMapping(teacher.description, plan);
    const given = calibrateOptions.parse(options[loss]);
    const targets = await TeacherTargets.prepare({
      ...{ teacher, sequences, runtime, directory: folder, stage: "calibrate" },
      routerLogits: loss === "router-logits" ? logitMapping(student.description, teacher.description, mapping) : null,
    });
    const weights = trainableWeights(student.description, "all");
    const trainable = new Set(weights.map(({ key }) => key));
    const { sequenceLength } = sequences;
    const executor = await ModelExecutor.open({
      ...{ ...student, sequenceLength, runtime, scratchDirectory: folder, direction: "backward", trainable },
    });
    const source = { source: teacher, sharedHead: false };
    const head = new VocabularyHead({ ...student, trainable }, executor.sessions, 20, source, executor.trained);
    const batch = { sequences, numbers: [0, 1] };
    const found = await lossAndGradients(
      ...[executor, head, batch, { routerLogits: targets.routerLogits, draws: [targets] }, given, undefined],
    );
    await executor.close();

    const expected = numbers[name]![loss]!;
    expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(1e-4);
    const tensors = new Map<string, Float64Array>();
    for (const { key, view } of weights) {
      const whole = elementCount(student.checkpoint.tensors.get(view.tensor)!.shape);
      const sum = tensors.get(view.tensor) ?? new Float64Array(whole);
      sum.set(found.gradients.get(key)!, view.offset);
      tensors.set(view.tensor, sum);
    }
    const isFrozen = (tensor: string) => tensor.endsWith("e_score_correction_bias");
    expect([...tensors.keys()].sort()).toEqual(Object.keys(expected.tensors).filter((tensor) => !isFrozen(tensor)));
    const largest = Math.max(...Object.values(expected.tensors).map(([norm]) => norm));
    for (const [tensor, gradient] of tensors) {
      const [norm, projection] = expected.tensors[tensor]!;
      const scale = Math.max(norm, 1e-4 * largest);
      const own = Math.hypot(...gradient);
      const ownProjection = gradient.reduce((sum, g, i) => sum + g * Math.cos(i), 0);
      expect(Math.abs(own - norm) / scale, tensor).toBeLessThan(2e-3);
      expect(Math.abs(ownProjection - projection) / scale, tensor).toBeLessThan(2e-2);
    }
  });
});
