import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { expertMapping } from "../../../src/engine/compression/plan/expertMapping";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { logitMapping, mapLogits, routerLogitLoss } from "../../../src/engine/distillation/routerLogits";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import type { MoeObservation } from "../../../src/engine/execution/observer";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { readProvenance } from "../../../src/engine/run/stages/outputs";
import type { OpenModel } from "../../../src/engine/run/work";
import { createRandom } from "../../../src/engine/tensor/random";
import type { MergingPlan } from "../../../src/protocol/plan";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { expectError } from "../checkpoint/fixtures";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeGoldenStudent } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

describe("the student's axis in the teacher's terms", () => {
  test("kept experts are picked, a group is the logsumexp of its members", () => {
    const logits = Float32Array.of(1, 2, 3, 4, -1, 0, 1000, 1001);
    expect([...mapLogits(logits, 4, [[3], [0]])]).toEqual([4, 1, 1001, -1]);
    const merged = mapLogits(logits, 4, [
      [0, 1],
      [2, 3],
    ]);
    const expected = [Math.log(Math.E + Math.E ** 2), Math.log(Math.E ** 3 + Math.E ** 4)];
    expected.push(Math.log(1 / Math.E + 1), 1001 + Math.log(1 + 1 / Math.E));
    expected.forEach((value, i) => expect(merged[i]!).toBeCloseTo(value, 4));
  });

  test("comes from the plan; without one it needs as many logits", async () => {
    const teacher = (await openModel(goldenCheckpoint("olmoe"))).description;
    const student = await writeGoldenStudent("olmoe", path.join(temporaryFolder(), "s"));
    const { plan } = (await readProvenance(student.checkpoint.directory))!;
    const kept = plan!.paradigm === "pruning" ? plan!.layers["1"]!.kept : [];
    const mapping = logitMapping(student.description, teacher, expertMapping(teacher, plan));
    expect(mapping.get(1)).toEqual(kept.map((e) => [e]));
    expect(logitMapping(teacher, teacher, null).get(0)).toEqual(Array.from({ length: 8 }, (_, e) => [e]));
    await expectError(
      () => Promise.resolve().then(() => logitMapping(student.description, teacher, expertMapping(teacher, null))),
      "teacher/mismatch",
      "layer 0",
      "5",
      "8",
    );
    const groups = [
      { members: [0, 3, 5], weights: [0.5, 0.25, 0.25], dominant: 0 },
      ...[1, 2, 4].map((e) => ({ members: [e], weights: [1], dominant: e })),
      { members: [6, 7], weights: [0.5, 0.5], dominant: 7 },
    ];
    const merging: MergingPlan = {
      ...{ schemaVersion: 1, paradigm: "merging", method: "hc-smoe", alignment: "none", router: "fold" },
      layers: { "0": { groups }, "1": { groups }, "2": { groups } },
    };
    const merged = logitMapping(student.description, teacher, expertMapping(teacher, merging));
    expect(merged.get(2)).toEqual([[0, 3, 5], [1], [2], [4], [6, 7]]);
  });
});

test("the loss of one layer: mean squared difference of the tokens that count, and its gradient by finite differences", () => {
  const random = createRandom(5);
  const draw = () => Float32Array.from({ length: 6 * 4 }, () => random.normal());
  const [student, teacher] = [draw(), draw()];
  const valid = Uint8Array.of(1, 1, 0, 1, 1, 0);
  const of = (logits: Float32Array) => routerLogitLoss(logits, teacher, { width: 4, layers: 3, valid });
  let expected = 0;
  for (let i = 0; i < 24; i++) if (valid[Math.floor(i / 4)] === 1) expected += (student[i]! - teacher[i]!) ** 2;
  const { loss, gradient } = of(student);
  expect(loss).toBeCloseTo(expected / (4 * 4 * 3), 6);
  for (let i = 0; i < 24; i++) {
    const moved = (by: number) => of(student.with(i, student[i]! + by)).loss;
    expect((moved(0.25) - moved(-0.25)) / 0.5).toBeCloseTo(gradient[i]!, 5);
  }
});

/** As test/engine/execution/gradients.test.ts: along the gradient g the loss changes by h |g|^2; steps that flip a choice are left out. */
describe.each(["olmoe", "deepseek_v3"])("%s", (family) => {
  let teacher: OpenModel;
  let student: OpenModel;
  beforeAll(async () => {
    teacher = await openModel(goldenCheckpoint(family));
    student = await writeGoldenStudent(family, path.join(temporaryFolder(), "student"));
  });

  test("the loss over all layers changes along each router's gradient as the gradient says", async () => {
    const sequences = randomSequences(8, 3, 10, { lengths: [10, 7, 10] });
    const { plan } = (await readProvenance(student.checkpoint.directory))!;
    const routerLogits = logitMapping(
      student.description,
      teacher.description,
      expertMapping(teacher.description, plan),
    );
    const directory = temporaryFolder();
    const targets = await TeacherTargets.prepare({ teacher, sequences, runtime, directory, routerLogits, stage: "t" });
    const executor = await ModelExecutor.open({
      ...{ ...student, sequenceLength: 10, runtime, scratchDirectory: directory, direction: "backward" },
    });
    const head = new VocabularyHead(student, executor.sessions, 30);
    const options = calibrateOptions.parse({ loss: "router-logits" });
    const batch = { sequences, numbers: [0, 1, 2] };
    const taught = { routerLogits: targets.routerLogits, draws: [targets] };
    const lossOf = () => lossAndGradients(executor, head, batch, taught, options, undefined);
    const choices = async () => {
      const chosen: string[] = [];
      const observer = { observe: ({ selectedIds }: MoeObservation) => void chosen.push(selectedIds.join()) };
      (await executor.forward({ ids: sequences.ids }, { observer })).close();
      return chosen.join(" ");
    };
    const { gradients } = await lossOf();
    const here = await choices();
    let compared = 0;
    for (const [key, gradient] of gradients) {
      const squared = gradient.reduce((sum, g) => sum + g * g, 0);
      const weights = executor.parameters.get(key)!;
      const original = weights.slice();
      const step = 4e-3 / Math.sqrt(squared);
      const moved = async (by: number) => {
        weights.forEach((_, i) => (weights[i] = original[i]! + by * gradient[i]!));
        return { loss: (await lossOf()).loss, choices: await choices() };
      };
      const [up, down] = [await moved(step), await moved(-step)];
      weights.set(original);
      if (up.choices !== here || down.choices !== here) continue;
      expect(Math.abs((up.loss - down.loss) / (2 * step) / squared - 1), key).toBeLessThan(0.01);
      compared++;
    }
    await executor.close();
    expect(compared).toBeGreaterThan(0);
  });
});
