import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { divergenceOf } from "../../../src/engine/distillation/divergence";
import { routerKl } from "../../../src/engine/distillation/routerKl";
import { StudentAwareTeacher } from "../../../src/engine/distillation/studentAwareTeacher";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { Parameters } from "../../../src/engine/execution/parameters";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import { withActiveExperts } from "../../../src/engine/model/activeExperts";
import {
  distillationGolden,
  goldenTokens,
  openStudent,
  openTeacher,
  taughtFamilies,
} from "../../support/distillationGoldens";
import { relativeToLargest } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

describe.each(taughtFamilies)("Student-Aware Router of %s", (family) => {
  test("loss, router gradients, one AdamW step, and the student's loss after it are PyTorch's", async () => {
    const [whole, student] = [await openTeacher(family), await openStudent(family)];
    const golden = await distillationGolden(family, "sar");
    const { targets, ...sequences } = goldenTokens(golden);
    const { valid } = { valid: Uint8Array.from(golden.get("valid")!.values) };
    const layers = [...golden.keys()].flatMap((name) => /^grad\.(\d+)$/.exec(name)?.[1] ?? []).map(Number);
    const [experts] = golden.get(`grad.${layers[0]!}`)!.shape;
    const teacher = { ...whole, description: withActiveExperts(whole.description, experts!) };
    const scratchDirectory = temporaryFolder();
    const isTarget = Uint8Array.from({ length: 48 }, (_, row) =>
      row % 24 === 23 ? 0 : targets[Math.floor(row / 24) * 23 + (row % 24)]!,
    );
    const open = { sequenceLength: 24, runtime, scratchDirectory };
    const close = (actual: ArrayLike<number>, name: string, tolerance: number) =>
      expect(relativeToLargest(actual, golden.get(name)!.values), name).toBeLessThan(tolerance);

    const executor = await ModelExecutor.open({ ...student, ...open, direction: "forward" });
    const ids = { ids: sequences.ids };
    const studentHidden = await executor.forward(ids);
    const raw = studentHidden.read(0, 48).slice();
    const studentHead = new VocabularyHead(student, executor.sessions, 20);
    await studentHead.normalise(studentHidden);
    const trained = await Parameters.read(student.checkpoint, student.description, []);
    const sar = await StudentAwareTeacher.open({ ...open, teacher, student, trained, routers: null });

    const router = (layer: number) => {
      const { feedForward } = teacher.description.layers[layer]!;
      if (feedForward.kind !== "moe") throw new Error("no experts");
      return weightKey(feedForward.router.weight);
    };
    const before = readFileSync(path.join(whole.checkpoint.directory, "model.safetensors"));
    const klBefore = await observe(sar.executor, ids);
    const found = await sar.lossAndGradients(sequences, studentHidden, undefined, isTarget);
    expect(Math.abs(found.loss / golden.get("loss")!.values[0]! - 1)).toBeLessThan(1e-3);
    for (const layer of layers) close(found.gradients.get(router(layer))!, `grad.${layer}`, 2e-3);
    const norm = sar.update(found.gradients, 1e-2, 1);
    expect(Math.abs(norm / golden.get("gradientNorm")!.values[0]! - 1)).toBeLessThan(2e-3);
    for (const layer of layers)
      expect(
        relativeToLargest(sar.state.parameters.get(router(layer))!, golden.get(`after.router.${layer}`)!.values),
      ).toBeLessThan(2e-4);
    const klAfter = await observe(sar.executor, ids);
    for (const layer of layers) {
      const { feedForward } = teacher.description.layers[layer]!;
      if (feedForward.kind !== "moe") throw new Error("no experts");
      const value = routerKl(feedForward.routing, klBefore.get(layer)!, klAfter.get(layer)!, experts!, valid);
      const expected = golden.get(`after.routerKl.${layer}`)!.values[0]!;
      expect(Math.abs(value / expected - 1), `routerKl.${layer}`).toBeLessThan(1e-3);
    }
    using after = await sar.targets(sequences);
    const afterLogits = await sar.executor.forward(ids);
    close(await new VocabularyHead(teacher, sar.executor.sessions, 20).logits(afterLogits), "after.logits", 2e-4);

    const count = targets.reduce((sum, one) => sum + one, 0);
    const head = new VocabularyHead(student, executor.sessions, 20, { source: teacher, sharedHead: false });
    studentHidden.write(0, raw);
    const rowWeights = Float32Array.from(isTarget, (one) => one / count);
    const losses = await head.lossAndGradient(
      ...[studentHidden, { teacherHidden: after, labels: new Int32Array(48) }, rowWeights],
      { loss: "kd", temperature: 1, divergence: divergenceOf("reverse", undefined) },
    );
    const loss = losses.reduce((sum, value, row) => sum + value * rowWeights[row]!, 0);
    expect(Math.abs(loss / golden.get("after.studentLoss")!.values[0]! - 1)).toBeLessThan(1e-3);
    await sar.close();
    await executor.close();
    expect(readFileSync(path.join(whole.checkpoint.directory, "model.safetensors")).equals(before)).toBe(true);
  });
});

/** Router logits of every layer. */
async function observe(executor: ModelExecutor, batch: { ids: Int32Array }): Promise<Map<number, Float32Array>> {
  const found = new Map<number, Float32Array>();
  const hidden = await executor.forward(batch, {
    observer: { observe: ({ layer, routerLogits }) => void found.set(layer, routerLogits.slice()) },
  });
  hidden.close();
  return found;
}
