import path from "node:path";
import { expect, test } from "vitest";
import { evaluateCheckpoint, type EvaluateOptions } from "../../../src/engine/evaluation/evaluate";
import { TeacherRuns } from "../../../src/engine/evaluation/teacherRuns";
import { RouterTrace } from "../../../src/engine/evaluation/routerTrace";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeGoldenStudent } from "../../support/tinyModels";

const sequences = randomSequences(3, 5, 12, { lengths: [12, 5, 12, 2, 9] });

test("one run of the teacher, shared by all, gives the numbers of separate ones, and is done once", async () => {
  const teacher = await openModel(goldenCheckpoint("olmoe"));
  const student = await writeGoldenStudent("olmoe", path.join(temporaryFolder(), "student"));
  const messages: string[] = [];
  const evaluate = async (change: Pick<EvaluateOptions, "model" | "teacher"> & Partial<EvaluateOptions>) => {
    const { cost, ...rest } = await evaluateCheckpoint({
      sequences,
      expertMapping: null,
      runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 },
      scratchDirectory: temporaryFolder(),
      residentBytes: () => 5e8,
      report: ({ message, done, total }) => {
        if (done === total) messages.push(message);
      },
      ...change,
    });
    return { ...rest, bytes: cost.bytes };
  };
  const alone = [await evaluate({ model: teacher, teacher: null }), await evaluate({ model: student, teacher })];
  expect(messages).toEqual(["Evaluating", "Running the teacher", "Evaluating"]);
  messages.length = 0;
  const teacherRuns = new TeacherRuns();
  const shared = [
    await evaluate({ model: teacher, teacher: null, teacherRuns }),
    await evaluate({ model: student, teacher, teacherRuns }),
    await evaluate({ model: student, teacher, teacherRuns }),
  ];
  teacherRuns.close();
  expect(messages).toEqual(["Evaluating", "Evaluating", "Evaluating"]);
  expect(shared).toEqual([...alone, alone[1]]);
});

test("a trace on disk reads as one in memory, also across the chunks it came in", () => {
  const [tokens, numExperts, k, random] = [40, 7, 2, createRandom(4)];
  const traces = [true, false].map((inMemory) => new RouterTrace(tokens, temporaryFolder(), inMemory));
  const all = Float32Array.from({ length: tokens * numExperts }, () => random.normal());
  const ids = Int32Array.from({ length: tokens * k }, () => random.below(numExperts));
  for (const [from, to] of [
    [0, 13],
    [13, 40],
  ] as const) {
    for (const trace of traces) {
      trace.observe({
        ...{ layer: 3, firstToken: from, numTokens: to - from, hiddenSize: 4 },
        ...{ numRouterRows: numExperts, numExperts, numExpertsPerToken: k },
        routerLogits: all.slice(from * numExperts, to * numExperts),
        selectedIds: ids.slice(from * k, to * k),
        routingWeights: new Float32Array((to - from) * k),
        outputs: null,
      });
    }
  }
  for (const trace of traces) {
    expect(trace.read(3, 10, 20)).toEqual({ logits: all.slice(70, 210), selected: ids.slice(20, 60), k });
    expect(trace.read(2, 0, 1)).toBeNull();
    trace.close();
  }
});
