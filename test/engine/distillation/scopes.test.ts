import path from "node:path";
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { completeOutput } from "../../../src/engine/checkpoint/outputFolder";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import type { CalibrationOptions } from "../../../src/engine/distillation/calibration";
import { chooseExperts } from "../../../src/engine/distillation/chooseExperts";
import { stateKey } from "../../../src/engine/distillation/calibration";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { trainedNames } from "../../../src/engine/distillation/trainedNames";
import { loadState } from "../../../src/engine/distillation/trainState";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { liveWork } from "../../../src/engine/run/liveWork";
import { readProvenance } from "../../../src/engine/run/stages/outputs";
import type { OpenModel } from "../../../src/engine/run/work";
import { dtypeBits, elementCount } from "../../../src/engine/tensor/dtype";
import type { MetricsLine } from "../../../src/protocol/metrics";
import { calibrateOptions, calibrationScopes, type CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { expectError } from "../checkpoint/fixtures";
import { goldenCase, relativeToLargest } from "../../support/goldens";
import { kl, logitsOf, logSoftmax, mean, targetRows } from "../../support/logitsReference";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeStudentOf } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

async function setUp(name: string, change: Partial<CalibrateOptions>, other: Partial<CalibrationOptions> = {}) {
  const lines: MetricsLine[] = [];
  const student = await writeStudentOf(goldenCase(name), path.join(temporaryFolder(), "student"));
  const teacher = await openModel(goldenCase(name).checkpoint);
  const { vocabSize } = student.description;
  const given = {
    student,
    teacher,
    training: randomSequences(1, 12, 8, { vocabSize }),
    heldOut: null,
    options: calibrateOptions.parse({ batch: 4, learningRate: 1e-2, evaluateEvery: 1, topExperts: 2, ...change }),
    seed: 42,
    runtime,
    stateDirectory: temporaryFolder(),
    onMetrics: (line: MetricsLine) => void lines.push(line),
    ...other,
  };
  return { given: given as CalibrationOptions & { student: OpenModel; teacher: OpenModel }, lines };
}

async function written({
  onResume: _onResume,
  ...given
}: CalibrationOptions & { student: OpenModel; teacher: OpenModel }): Promise<OpenModel> {
  const directory = path.join(temporaryFolder(), "calibrated");
  await liveWork.calibrate({
    ...{ ...given, signal: new AbortController().signal, report: () => undefined },
    output: {
      ...{ directory, runId: "test" },
      provenance: { schemaVersion: 1, plan: null, reroute: "0", recipe: null, seed: 42, versions: {} },
    },
  });
  await completeOutput(directory);
  return openModel(directory);
}

/** One byte for each element of a tensor: 1 where a view of the given weights covers it. */
function coverage(entry: TensorEntry, weights: ReturnType<typeof trainableWeights>): Uint8Array {
  const covered = new Uint8Array(elementCount(entry.shape));
  for (const { view } of weights)
    if (view.tensor === entry.name) covered.fill(1, view.offset, view.offset + elementCount(view.shape));
  return covered;
}

const layouts: [name: string, what: string][] = [
  ["gpt_oss", "fused, transposed experts with biases, sinks"],
  ["qwen2_moe-no-bias-dynamic-tied", "tied embeddings, shared experts, a dense layer"],
  ["olmoe", "experts one by one"],
  ["granitemoe", "fused experts"],
];
describe.each(daily(2, layouts))("%s (%s)", (name) => {
  test.each(calibrationScopes.filter((scope) => scope !== "router+scales"))(
    "scope %s changes what it names, to the byte, and nothing else",
    async (scope) => {
      const { given } = await setUp(name, { scope, batch: 12 });
      const { student } = given;
      const result = await written(given);
      const chosen =
        scope === "router+top-experts"
          ? await chooseExperts({
              student,
              sequences: given.training,
              count: 2,
              runtime,
              scratchDirectory: temporaryFolder(),
            })
          : null;
      const weights = trainableWeights(student.description, scope, chosen);
      expect([...result.checkpoint.tensors.keys()].sort()).toEqual([...student.checkpoint.tensors.keys()].sort());
      let changedTensors = 0;
      for (const entry of student.checkpoint.tensors.values()) {
        const after = result.checkpoint.tensors.get(entry.name)!;
        expect({ name: entry.name, dtype: after.dtype, shape: after.shape }).toEqual({
          ...{ name: entry.name, dtype: entry.dtype, shape: entry.shape },
        });
        const [a, b] = [await readTensorBytes(entry), await readTensorBytes(after)];
        const bytes = dtypeBits[entry.dtype] / 8;
        const covered = coverage(entry, weights);
        let changed = 0;
        for (let i = 0; i < a.length; i++) {
          if (a[i] === b[i]) continue;
          if (covered[Math.floor(i / bytes)] === 0) throw new Error(`${entry.name} changed at byte ${i}`);
          changed++;
        }
        if (changed > 0) changedTensors++;
        // Experts that no token chose stay; everything else that trains moves.
        if (covered.includes(1) && !/experts/.test(entry.name)) expect(changed, entry.name).toBeGreaterThan(0);
      }
      const named = new Set(weights.map(({ view }) => view.tensor)).size;
      expect(changedTensors).toBeGreaterThan(named * 0.7);
      expect(result.checkpoint.config).toEqual(student.checkpoint.config);
      const provenance = await readProvenance(result.checkpoint.directory);
      expect(provenance!.trained).toEqual(trainedNames(weights, student.description));
    },
  );
});

test("the most used experts are those that tokens choose most, padding left out", async () => {
  const { given } = await setUp("olmoe", {});
  const { student } = given;
  const sequences = randomSequences(3, 6, 8, { lengths: [8, 3, 8, 1, 5, 8] });
  const counts = new Map<number, number[]>();
  await profileCheckpoint({
    ...{ ...student, sequences, runtime, collectOutputs: false, scratchDirectory: temporaryFolder() },
    observer: {
      observe: ({ layer, firstToken, numExperts, numExpertsPerToken: k, selectedIds }) => {
        const sums = counts.get(layer) ?? new Array<number>(numExperts).fill(0);
        counts.set(layer, sums);
        selectedIds.forEach((id, slot) => {
          const token = firstToken + Math.floor(slot / k);
          if (token % 8 < sequences.lengths[Math.floor(token / 8)]!) sums[id]!++;
        });
      },
    },
  });
  const chosen = await chooseExperts({ student, sequences, count: 3, runtime, scratchDirectory: temporaryFolder() });
  for (const [layer, sums] of counts) {
    const taken = chosen.get(layer)!;
    expect(taken).toHaveLength(3);
    const least = Math.min(...taken.map((e) => sums[e]!));
    sums.forEach((count, e) => {
      if (!taken.includes(e)) expect(count).toBeLessThanOrEqual(least);
    });
  }
});

describe("losses", () => {
  test("kd+lm is the weighted sum of both, at any temperature", async () => {
    const { given, lines } = await setUp("olmoe", { loss: "kd+lm", lmShare: 0.3, temperature: 2, batch: 12 });
    await calibrate(given);
    const { teacher, student, training } = given;
    const [t, s] = [await logitsOf(teacher, training), await logitsOf(student, training)];
    const expected = targetRows(training).map(
      (row) => 0.7 * 4 * kl(t[row]!, s[row]!, 2) - 0.3 * logSoftmax(s[row]!)[training.ids[row + 1]!]!,
    );
    const update = lines.find((line) => line.kind === "update")!;
    expect(update.loss / mean(expected)).toBeCloseTo(1, 4);
  });

  test("lm has no factor of the temperature, and keeps the look with the lowest loss", async () => {
    const heldOut = randomSequences(2, 4, 8);
    const { given, lines } = await setUp("olmoe", { loss: "lm", temperature: 3, scope: "all", epochs: 4 }, { heldOut });
    const { keptStep } = await calibrate(given);
    const looks = lines.filter((line) => line.kind === "held-out");
    expect(looks.find(({ step }) => step === keptStep)!.nll).toBe(Math.min(...looks.map(({ nll }) => nll)));
    const logits = await logitsOf(given.student, given.training);
    const nll = targetRows(given.training).map((row) => -logSoftmax(logits[row]!)[given.training.ids[row + 1]!]!);
    const first = lines.find((line) => line.kind === "update")!;
    expect(Math.abs(first.loss / mean(nll) - 1)).toBeLessThan(0.1);
  });

  test.each(["router+experts", "all"] as const)(
    "wider scopes reach a lower loss than routers alone: %s",
    async (scope) => {
      const last = async (chosen: CalibrateOptions["scope"]) => {
        const { given, lines } = await setUp("qwen3_moe", { loss: "lm", scope: chosen, epochs: 6, batch: 12 });
        await calibrate(given);
        return lines.filter((line) => line.kind === "update").at(-1)!.loss;
      };
      expect(await last(scope)).toBeLessThan(0.95 * (await last("router")));
    },
  );

  test("router-logits: without a plan a narrower student is refused", async () => {
    const { given } = await setUp("olmoe", { loss: "router-logits" });
    await expectError(() => calibrate(given), "teacher/mismatch", "layer 0");
  });
});

describe("router logits fitted first", () => {
  const mappingOf = (name: string) => async () => {
    const { given } = await setUp(name, { initialise: "router-logits" });
    const plan = (await readProvenance(given.student.checkpoint.directory))!.plan!;
    const kept = plan.paradigm === "pruning" ? plan.layers : {};
    return Object.fromEntries(Object.entries(kept).map(([layer, one]) => [layer, one.kept.map((e) => [e])]));
  };

  test.each(["olmoe", "gpt_oss"])("%s: the loss of router logits falls below the student's", async (name) => {
    const expertMapping = await mappingOf(name)();
    const firstLoss = async (change: Partial<CalibrateOptions>) => {
      const { given, lines } = await setUp(
        name,
        { loss: "router-logits", batch: 64, ...change },
        { expertMapping, training: randomSequences(1, 64, 8) },
      );
      await calibrate(given);
      return lines.find((line) => line.kind === "update")!.loss;
    };
    expect(await firstLoss({ initialise: "router-logits" })).toBeLessThan(0.9 * (await firstLoss({})));
  });

  test("where nothing is to be fitted the routers stay", async () => {
    const { given } = await setUp("olmoe", { initialise: "router-logits", learningRate: 1e-12, batch: 12 });
    const { parameters } = await calibrate({ ...given, student: given.teacher });
    for (const { key } of trainableWeights(given.teacher.description, "router")) {
      const before = await readFloat32(given.teacher.checkpoint.tensors.get(key)!);
      expect(relativeToLargest(parameters.get(key)!, before), key).toBeLessThan(1e-5);
    }
  });
});

describe.each(
  daily(2, [
    { scope: "all", loss: "kd" },
    { scope: "router+top-experts", loss: "router-logits" },
    { scope: "router+experts", loss: "lm" },
  ] as const),
)("$scope, $loss", (change) => {
  const identity = { "0": 5, "1": 5, "2": 5 };
  const given = () =>
    setUp(
      "olmoe",
      { ...change, initialise: change.loss === "router-logits" ? "router-logits" : "none" },
      {
        heldOut: randomSequences(2, 3, 8),
        expertMapping: Object.fromEntries(
          Object.entries(identity).map(([layer, width]) => [layer, Array.from({ length: width }, (_, e) => [e])]),
        ),
      },
    );

  test("the same command twice gives the same bytes; cancelled, it continues to them", async () => {
    const stateOf = ({ stateDirectory }: CalibrationOptions) =>
      readFile(path.join(stateDirectory, "train-state.safetensors"));
    const runs = [await given(), await given()];
    const results = [await calibrate(runs[0]!.given), await calibrate(runs[1]!.given)];
    expect(results[1]).toEqual(results[0]);
    expect((await stateOf(runs[1]!.given)).equals(await stateOf(runs[0]!.given))).toBe(true);

    const abort = new AbortController();
    const { given: disturbed } = await given();
    const cancelled = calibrate({
      ...disturbed,
      signal: abort.signal,
      onMetrics: (line) => {
        if (line.kind === "held-out" && line.step === 1) setTimeout(() => abort.abort(), 2);
      },
    });
    await expectError(() => cancelled, "cancelled");
    const saved = await loadState(path.join(disturbed.stateDirectory, "train-state.safetensors"), stateKey(disturbed));
    expect(saved!.step).toBe(1);
    expect(await calibrate(disturbed)).toEqual(results[0]);
    expect((await stateOf(disturbed)).equals(await stateOf(runs[0]!.given))).toBe(true);
  });
});

test("a large state is written at the looks only, and continues from there to the same bytes", async () => {
  const options = { scope: "all", evaluateEvery: 2, epochs: 2 } as const;
  const heldOut = randomSequences(2, 3, 8);
  const { given: undisturbed } = await setUp("olmoe", options, { heldOut });
  const expected = await calibrate(undisturbed);
  const { given, lines } = await setUp("olmoe", options, { heldOut, alwaysSavedBytes: 0 });
  const abort = new AbortController();
  const cancelled = calibrate({
    ...given,
    signal: abort.signal,
    onMetrics: (line) => {
      if (line.kind === "update" && line.step === 3) abort.abort();
    },
  });
  await expectError(() => cancelled, "cancelled");
  const resumedFrom: number[] = [];
  expect(await calibrate({ ...given, onResume: (step) => void resumedFrom.push(step) })).toEqual(expected);
  expect(resumedFrom).toEqual([2]);
  expect(lines.flatMap((line) => (line.kind === "update" ? [line.step] : []))).toEqual([3, 4, 5, 6]);
});
