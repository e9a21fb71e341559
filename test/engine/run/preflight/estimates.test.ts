import { readFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { planExecution, smallestBudget } from "../../../../src/engine/execution/memoryPlan";
import type { Measurement } from "../../../../src/engine/execution/measure";
import { blockTokens } from "../../../../src/engine/execution/leaves";
import type { ModelDescription } from "../../../../src/engine/model/description";
import { predictedDense } from "../../../../src/engine/distillation/build/predictedDense";
import { predictTrained } from "../../../../src/engine/distillation/trainedPrediction";
import { estimateStages } from "../../../../src/engine/run/preflight/estimates";
import { threadsThatFit } from "../../../../src/engine/execution/sideBySide/threadsThatFit";
import { stageTimes, type EstimateInput } from "../../../../src/engine/run/preflight/stageTimes";
import { stagesOf } from "../../../../src/engine/run/folder/runFolder";
import { stageTable } from "../../../../src/engine/run/stages";
import { recipeSchema, type Recipe } from "../../../../src/protocol/recipe";
import { openModel } from "../../../support/tinyModels";

const stages = stageTable(() => Promise.resolve());
/** The most that one stage spills. */
function spillBytes(asked: Recipe, description: ModelDescription, memoryBudgetBytes: number): number {
  const scratch = [...stagesOf(asked)].map((id) =>
    stages[id].scratch({ recipe: asked, teacher: description, memoryBudgetBytes, trained: null }),
  );
  return Math.max(...scratch.map(({ spilled }) => spilled));
}

let teacher: ModelDescription;
beforeAll(async () => {
  teacher = (await openModel(path.join(__dirname, "../../../fixtures/coarse"))).description;
});

/** Round numbers, so that sums can be done by hand. */
const probe: Measurement = {
  forward: { secondsPerChunk: 1, secondsPerToken: 0.001 },
  observed: { secondsPerChunk: 2, secondsPerToken: 0.002 },
  update: { secondsPerChunk: 3, secondsPerToken: 0.01 },
  headTokensPerSecond: 100,
  headUpdateTokensPerSecond: 50,
  compileForwardSeconds: 10,
  compileObservedSeconds: 10,
  compileUpdateSeconds: 30,
  disk: { readBytesPerSecond: 1000, writeBytesPerSecond: 500, bufferBytesPerSecond: 2000 },
  assumption: "made up",
};
const fastDisk = { ...probe, disk: { ...probe.disk, writeBytesPerSecond: 1e6 } };
const sequenceLength = 32;
const recipe = (change: object = {}) =>
  recipeSchema.parse({
    schemaVersion: 1,
    teacher: "t",
    output: "o",
    data: { calibration: "c", evaluation: "e", sequences: 4, evaluationSequences: 2, sequenceLength },
    compress: { keep: 0.5 },
    calibrate: { batch: 2, heldOut: 0 },
    ...change,
  });
const input = (change: Partial<EstimateInput> = {}): EstimateInput => ({
  ...{ recipe: recipe(), teacher, probe, memoryBudgetBytes: 8e9, bytesBefore: 4000, bytesAfter: 1000 },
  cacheBytes: 1e9,
  ...change,
});

describe("times", () => {
  it.each<[string, (times: ReturnType<typeof stageTimes>) => number, Partial<EstimateInput>, number]>([
    ["a pass: compiled, one chunk, its tokens", (t) => t.pass(128, "forward"), {}, 10 + 1 + 0.128],
    ["an observed pass", (t) => t.pass(128, "observed"), {}, 10 + 2 + 0.256],
    ["no tokens, no pass", (t) => t.pass(0, "forward"), {}, 0],
    [
      "a pass that reads a checkpoint beyond the page cache",
      (t) => t.pass(128, "forward"),
      { cacheBytes: 3999 },
      15.128,
    ],
    ["the teacher with its own logits alone", (t) => t.evaluation(100, "teacher"), {}, 10 + 1 + 0.1 + 0.5],
    ["a student of a quarter, with both", (t) => t.evaluation(100, "student"), {}, 2.5 + 0.25 + 0.1 + 1],
    ["looks at a student: compiled once", (t) => t.looks(3, 100), {}, 2.5 + 3 * (0.25 + 0.1 + 1)],
    ["a single look: as any evaluation", (t) => t.looks(1, 100), {}, 2.5 + 0.25 + 0.1 + 1],
    ["no tokens to look at, no look", (t) => t.looks(3, 0), {}, 0],
    ["updates: compiled once, a chunk each", (t) => t.updates(2, 128), {}, 7.5 + 2 * 3 * 0.25 + 1.28 + 128 / 50],
    ["updates that read twice", (t) => t.updates(2, 128), { cacheBytes: 0 }, 7.5 + 1.5 + 1.28 + 2.56 + 2 * 2 * 1],
    ["no updates", (t) => t.updates(0, 0), {}, 0],
    ["copying, no faster than the disk writes", (t) => t.copy(5000), {}, 10],
    ["copying what is read while the disk writes", (t) => t.copy(5000), { cacheBytes: 100 }, 10],
    ["copying to a fast disk: through memory twice", (t) => t.copy(5000), { probe: fastDisk }, 2.5 + 2.5],
    ["read from a slow one", (t) => t.copy(5000), { probe: fastDisk, cacheBytes: 100 }, 5 + 2.5],
  ])("%s", (_name, time, change, expected) => {
    expect(time(stageTimes(input(change)))).toBeCloseTo(expected, 9);
  });

  it("of a profile of many shards read the checkpoint once a shard", () => {
    const tokens = 3 * blockTokens;
    const [warm, cold] = [0, 1].map((i) =>
      stageTimes(input({ cacheBytes: i === 0 ? 1e9 : 0 })).pass(tokens, "observed"),
    );
    expect(cold! - warm!).toBeCloseTo(3 * 4, 6);
  });

  it("compile again in each update what does not stay compiled", () => {
    const memoryBudgetBytes = smallestBudget(teacher, sequenceLength, "backward");
    // Six layers of eight experts, at 6 kB a node.
    const compiled = 6 * (335 + 34 * 8) * 6000;
    const { sessionBytes, chunkSequences } = planExecution(teacher, sequenceLength, memoryBudgetBytes, "backward");
    expect(sessionBytes).toBeLessThan(compiled);
    const [one, two] = [1, 2].map((count) => stageTimes(input({ memoryBudgetBytes })).updates(count, count * 32));
    const work = Math.ceil(1 / chunkSequences) * 3 * 0.25 + 32 * 0.01 + 32 / 50;
    expect(one).toBeCloseTo(7.5 + work, 9);
    expect(two! - one!).toBeCloseTo(7.5 * (1 - sessionBytes / compiled) + work, 9);
  });

  it("are 0 with the reason where nothing was measured", () => {
    const stages = estimateStages(input({ probe: null }));
    // Of stages that need no measurement, too: a second that is known would look like all of the run's.
    expect(stages.map(({ seconds }) => seconds)).toEqual(stages.map(() => 0));
    expect(stages[0]!.assumption).toContain("not measured");
  });

  it("say whether weights are read from disk", () => {
    const said = (cacheBytes: number) => estimateStages(input({ cacheBytes }))[0]!.assumption;
    expect(said(0)).toMatch(/read from disk each pass/);
    expect(said(1e9)).toMatch(/stay in the page cache/);
  });
});

it("memory of a stage is at least that of the stages before it, within the budget", () => {
  const memoryBudgetBytes = 2e9;
  const stages = estimateStages(input({ memoryBudgetBytes }));
  expect(stages.map(({ stage }) => stage)).toEqual(["profile", "compress", "calibrate", "evaluate", "report"]);
  const peaks = stages.map(({ peakMemoryBytes }) => peakMemoryBytes);
  expect([...peaks].sort((a, b) => a - b)).toEqual(peaks);
  expect(peaks.at(-1)).toBeLessThanOrEqual(memoryBudgetBytes);
});

describe("peak memory of the sample", () => {
  const sample = path.join(__dirname, "../../../../media/sample");
  /** MiB without mapped files, as runs of the sample recipe recorded them: Linux x64, Node 20, two cores, a budget of 15 GB. */
  it.each<[stage: string, partThreads: number, measured: number]>([
    ["profile", 0, 505],
    ["profile", 2, 886],
    ["calibrate", 0, 505],
    ["calibrate", 2, 1147],
    ["evaluate", 2, 1147],
  ])("of %s with %i threads on parts is predicted within 25 %%", async (stage, partThreads, measured) => {
    const { description } = await openModel(path.join(sample, "checkpoint"));
    const asked = recipeSchema.parse(JSON.parse(await readFile(path.join(sample, "sample.reroute.json"), "utf8")));
    const stages = estimateStages(
      input({ recipe: asked, teacher: description, memoryBudgetBytes: 15.5e9, partThreads }),
    );
    const { peakMemoryBytes } = stages.find((one) => one.stage === stage)!;
    const ratio = peakMemoryBytes / 2 ** 20 / measured;
    expect([ratio > 1 / 1.25, ratio < 1.25], ratio.toFixed(3)).toEqual([true, true]);
  });

  it.each([
    ["as many as the run has", 2, 15.5e9, 2],
    ["on many cores, too", 64, 90e9, 64],
    ["fewer where not all keep their weights in float32", 64, 8e9, 10],
    ["none where two do not", 2, 5e8, 0],
    ["none of one", 1, 15.5e9, 0],
  ])("has threads: %s", async (_name, threads, memoryBudgetBytes, count) => {
    const { description } = await openModel(path.join(sample, "checkpoint"));
    const work = { description, sequenceLength: 256, direction: "forward" as const, sequences: 32 };
    expect(threadsThatFit(work, { threads, memoryBudgetBytes }).count).toBe(count);
  });
});

describe("disk for what does not fit", () => {
  const rows = (tokens: number) => tokens * teacher.hiddenSize * 4;

  it("is only the state of a profile or an evaluation where the budget is wide", () => {
    const { sequences, evaluationSequences } = recipe().data;
    const profile = 2 * rows(sequences * sequenceLength);
    // Two passes' hidden states, old and new, and eight router logits a layer of the teacher.
    const tokens = evaluationSequences * sequenceLength;
    const evaluation = 4 * rows(tokens) + 4 * 8 * tokens * teacher.layers.length;
    expect(spillBytes(recipe(), teacher, 8e9)).toBe(Math.max(profile, evaluation));
    expect(spillBytes(recipe({ student: "s" }), teacher, 8e9)).toBe(evaluation);
  });

  it("is the widest stage's hidden states where it is narrow", () => {
    const budget = smallestBudget(teacher, sequenceLength, "backward");
    const { hiddenStateBytes } = planExecution(teacher, sequenceLength, budget, "backward");
    const { length: numLayers } = teacher.layers;
    const batch = Math.ceil(hiddenStateBytes / rows(sequenceLength * 2 * numLayers)) + 1;
    const tokens = batch * sequenceLength;
    // Both blocks' inputs and eight router logits of each layer, and the hidden states themselves.
    const update = rows(tokens * (2 * numLayers + 1)) + 4 * 8 * tokens * numLayers;
    expect(update).toBeGreaterThan(hiddenStateBytes);
    expect(spillBytes(recipe({ student: "s", calibrate: { batch, heldOut: 0 } }), teacher, budget)).toBe(update);
  });
});

describe("a dense student", () => {
  /** With its own shapes, trained whole, as the teacher of itself or of another. */
  const peakOf = (learner: ModelDescription, change: Partial<EstimateInput>, calibrate: object = {}) => {
    const asked = recipe({ student: "s", calibrate: { batch: 2, heldOut: 0, scope: "all", ...calibrate } });
    const trained = predictTrained(asked, change.teacher ?? teacher, learner, null);
    const all = estimateStages(input({ recipe: asked, trained, memoryBudgetBytes: 4e9, ...change }));
    return all.find(({ stage }) => stage === "calibrate")!.peakMemoryBytes;
  };
  let small: ModelDescription;
  let wide: ModelDescription;
  beforeAll(async () => {
    const model = await openModel(path.join(__dirname, "../../../fixtures/coarse"));
    [small, wide] = [2, 8].map((experts) => predictedDense(model, { experts }, "nowhere").description) as [
      ModelDescription,
      ModelDescription,
    ];
  });

  it("takes what its own shapes take where that is more than a pass of the teacher", () => {
    expect(peakOf(wide, { student: wide })).toBe(peakOf(wide, { teacher: wide, student: wide }));
    expect(peakOf(wide, { student: wide })).toBeGreaterThan(peakOf(small, { student: small }));
  });

  it("holds six numbers for each that trains", () => {
    const more = predictTrained(recipe({ student: "s", calibrate: { scope: "all" } }), teacher, wide, null)!.parameters;
    const less = predictTrained(
      recipe({ student: "s", calibrate: { scope: "feed-forward" } }),
      teacher,
      wide,
      null,
    )!.parameters;
    const difference = peakOf(wide, { student: wide }) - peakOf(wide, { student: wide }, { scope: "feed-forward" });
    expect(difference).toBeGreaterThanOrEqual(24 * (more - less));
  });

  it("has the teacher beside it where it writes, or layers are matched", () => {
    const alone = peakOf(small, { student: small });
    const divergence = { divergence: "reverse" };
    for (const beside of [
      { ...divergence, onPolicy: { promptTokens: 8 } },
      { match: { feedForward: 1 } },
      { ...divergence, teacherRouting: { kind: "student-aware" } },
    ])
      expect(peakOf(small, { student: small }, beside)).toBeGreaterThan(alone);
    // Draws are passes, one after another.
    const drawn = { ...divergence, teacherRouting: { kind: "augment", draws: 4 } };
    const once = { ...divergence, teacherRouting: { kind: "augment", draws: 1 } };
    expect(peakOf(small, { student: small }, drawn)).toBe(peakOf(small, { student: small }, once));
  });
});
