import { beforeAll, expect, test } from "vitest";
import { calibrate } from "../../../../src/engine/distillation/calibrate";
import { predictTrained } from "../../../../src/engine/distillation/trainedPrediction";
import { estimateStages } from "../../../../src/engine/run/preflight/estimates";
import type { OpenModel } from "../../../../src/engine/run/work";
import type { Tensor } from "../../../../src/engine/runtime/session";
import type { CalibrateOptions } from "../../../../src/protocol/calibrateOptions";
import type { MetricsLine } from "../../../../src/protocol/metrics";
import { recipeSchema } from "../../../../src/protocol/recipe";
import { openStudent, openTeacher } from "../../../support/distillationGoldens";
import { temporaryFolder } from "../../../support/temporaryFolder";
import { randomSequences } from "../../../support/tinyModels";

/* What the pre-flight says of a distillation's passes, against those that the teacher's routers really made. */

const sequenceLength = 10;
let teacher: OpenModel;
let student: OpenModel;
beforeAll(async () => {
  [teacher, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
});

function recipeOf(calibrateOptions: Partial<CalibrateOptions>) {
  return recipeSchema.parse({
    ...{ schemaVersion: 1, teacher: "t", student: "s", output: "o" },
    data: { calibration: "c", sequences: 6, sequenceLength },
    calibrate: {
      ...{ batch: 2, epochs: 2, evaluateEvery: 4, heldOut: 0.34, scope: "feed-forward", divergence: "reverse" },
      ...calibrateOptions,
    },
  });
}

/** Tokens and counts that the pre-flight names. */
function predicted(recipe: ReturnType<typeof recipeOf>) {
  const trained = predictTrained(recipe, teacher.description, student.description, null);
  const { assumption } = estimateStages({
    ...{ recipe, teacher: teacher.description, probe: null, trained },
    ...{ memoryBudgetBytes: 8e9, bytesBefore: 4000, bytesAfter: 1000, cacheBytes: 1e9 },
  }).find(({ stage }) => stage === "calibrate")!;
  const found =
    /over (\d+) training(?: and (\d+) tokens beside the student)? ?(?:tokens )?and once over (\d+) held-out tokens, (\d+) updates .*, (\d+) evaluations/.exec(
      assumption,
    );
  const [taught, beside, heldOut, updates, evaluations] = found!.slice(1).map((text) => Number(text ?? 0)) as [
    ...[number, number, number, number, number],
  ];
  return { taught, beside, heldOut, updates, evaluations };
}

/** The same of the run itself: the dense student has no router, so whatever is routed is the teacher's. */
async function counted(recipe: ReturnType<typeof recipeOf>) {
  const lines: MetricsLine[] = [];
  let routed = 0;
  const watch = (_: unknown, feeds: Readonly<Record<string, Tensor>>) => {
    const { selectedIds, dHidden } = feeds;
    if (selectedIds !== undefined && dHidden === undefined) routed += selectedIds.shape[0]!;
  };
  await calibrate({
    ...{ student, teacher, options: recipe.calibrate!, seed: 7, stateDirectory: temporaryFolder() },
    training: randomSequences(1, 6, sequenceLength),
    heldOut: randomSequences(2, 2, sequenceLength),
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9, watch },
    onMetrics: (line) => void lines.push(line),
  });
  const count = (kind: MetricsLine["kind"]) => lines.filter((line) => line.kind === kind).length;
  return {
    tokens: routed / teacher.description.layers.length,
    updates: count("update"),
    evaluations: count("held-out"),
  };
}

/** `draws`: passes over the text. `unrouted`: of the passes beside the student, those that take no router. */
test.each<[string, Partial<CalibrateOptions>, { draws?: number; unrouted?: number }]>([
  ["its own routing", {}, {}],
  ["all experts", { teacherRouting: { kind: "active" } }, {}],
  ["three draws", { teacherRouting: { kind: "augment", lambda: 0.5, draws: 3 } }, { draws: 3 }],
  [
    "what the student writes",
    { onPolicy: { share: 1, promptTokens: 4, roundUpdates: 2, temperature: 1, replay: 0 } },
    {},
  ],
  // Of a step's forward, its forward again with gradients (as two passes), and what the student learns from, gradients route nothing.
  [
    "routers that train",
    { teacherRouting: { kind: "student-aware", roundUpdates: 2, freezeAbove: 1, routerLearningRate: 1e-3 } },
    { unrouted: 1 },
  ],
])("a teacher with %s runs as often as the pre-flight says", async (_, options, { draws = 1, unrouted = 0 }) => {
  const recipe = recipeOf(options);
  const { taught, beside, heldOut, updates, evaluations } = predicted(recipe);
  const found = await counted(recipe);
  expect([found.updates, found.evaluations]).toEqual([updates, evaluations]);
  const epochs = recipe.calibrate!.epochs;
  const tokens = 6 * sequenceLength;
  expect([taught, heldOut]).toEqual([beside > 0 && taught === 0 ? 0 : tokens, 2 * sequenceLength]);
  expect(found.tokens).toBe(taught * draws + (beside - unrouted * tokens * epochs) + heldOut);
});
