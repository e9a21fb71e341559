import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { RerouteError } from "../../../src/protocol/errors";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { FileHiddenStates, StoredHiddenStates } from "../../../src/engine/execution/hiddenStates";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import type { MetricsLine } from "../../../src/protocol/metrics";
import { calibrateOptions, type CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { completeOutput } from "../../../src/engine/checkpoint/outputFolder";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import type { CalibrationOptions } from "../../../src/engine/distillation/calibration";
import { stateKey } from "../../../src/engine/distillation/calibration";
import { loadState } from "../../../src/engine/distillation/trainState";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { liveWork } from "../../../src/engine/run/liveWork";
import type { OpenModel } from "../../../src/engine/run/work";
import { expectError } from "../checkpoint/fixtures";
import { goldenCheckpoint, readGolden, relativeToLargest } from "../../support/goldens";
import { kl, logitsOf, logSoftmax, mean, targetRows } from "../../support/logitsReference";
import { temporaryFolder } from "../../support/temporaryFolder";
import {
  copyWithChange,
  goldenSequences,
  openModel,
  randomSequences,
  writeGoldenStudent,
} from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const family = "olmoe";
let teacher: OpenModel;
let student: OpenModel;

beforeAll(async () => {
  teacher = await openModel(goldenCheckpoint(family));
  student = await writeGoldenStudent(family, path.join(temporaryFolder(), "student"));
});

const training = randomSequences(1, 12, 10);
const heldOut = randomSequences(2, 4, 10);

function setUp(
  change: Partial<CalibrateOptions> = {},
  other: Partial<CalibrationOptions> = {},
): CalibrationOptions & { lines: MetricsLine[] } {
  const lines: MetricsLine[] = [];
  return {
    student,
    teacher,
    training,
    heldOut: null,
    options: calibrateOptions.parse({ batch: 4, learningRate: 1e-2, evaluateEvery: 1, ...change }),
    seed: 42,
    runtime,
    stateDirectory: temporaryFolder(),
    onMetrics: (line) => void lines.push(line),
    ...other,
    lines,
  };
}

const updates = (lines: MetricsLine[]) => lines.filter((line) => line.kind === "update");
const looks = (lines: MetricsLine[]) => lines.filter((line) => line.kind === "held-out");

describe("the loss", () => {
  test.each(["olmoe", "qwen3_moe", "deepseek_v3", "gpt_oss"])(
    "%s: loss, gradient norm and the first step are those of PyTorch's numbers",
    async (name) => {
      const golden = await readGolden(name);
      const given = setUp(
        { batch: 8, warmup: 0, clip: 1e9 },
        {
          student: await writeGoldenStudent(name, path.join(temporaryFolder(), "student")),
          teacher: await openModel(goldenCheckpoint(name)),
          training: await goldenSequences(name),
        },
      );
      const { parameters } = await calibrate(given);
      const [update] = updates(given.lines);
      const expectedLoss = golden.get("kd_loss")!.values[0]!;
      expect(Math.abs(update!.loss - expectedLoss) / expectedLoss).toBeLessThan(1e-3);
      const gradients = [...golden].filter(([key]) => key.startsWith("kd_grad."));
      const norm = Math.hypot(...gradients.flatMap(([, { values }]) => values));
      expect(Math.abs(update!.gradientNorm - norm) / norm).toBeLessThan(2e-3);
      // After one step AdamW has moved every weight by the learning rate against its gradient's sign.
      const students = given.student.checkpoint;
      expect(parameters.size).toBe(gradients.length);
      for (const { layer, moe } of moeLayers(given.student.description)) {
        const moved = parameters.get(moe.router.weight.tensor)!;
        const before = await readRouter(students.directory, moe.router.weight.tensor);
        const { values } = golden.get(`kd_grad.${layer}`)!;
        const large = Math.max(...values.map(Math.abs)) * 1e-2;
        values.forEach((gradient, i) => {
          if (Math.abs(gradient) > large) expect((moved[i]! - before[i]!) / -1e-2).toBeCloseTo(Math.sign(gradient), 2);
        });
      }
    },
  );

  test.each([1, 2, 0.5])("is temperature^2 times the KL at temperature %f, padding left out", async (temperature) => {
    const padded = randomSequences(5, 4, 10, { lengths: [10, 7, 2, 1] });
    const given = setUp({ temperature }, { training: padded });
    await calibrate(given);
    const [t, s] = [await logitsOf(teacher, padded), await logitsOf(student, padded)];
    const expected = temperature ** 2 * mean(targetRows(padded).map((row) => kl(t[row]!, s[row]!, temperature)));
    expect(updates(given.lines)[0]!.loss / expected).toBeCloseTo(1, 4);
    expect(updates(given.lines)[0]!.tokens).toBe(20);
  });

  test("what stands in the padding changes nothing", async () => {
    const padded = randomSequences(5, 4, 10, { lengths: [10, 7, 2, 5] });
    const other = { ...padded, ids: padded.ids.slice() };
    for (let s = 0; s < 4; s++) other.ids.fill(7, s * 10 + padded.lengths[s]!, (s + 1) * 10);
    const [a, b] = [setUp({ epochs: 3 }, { training: padded }), setUp({ epochs: 3 }, { training: other })];
    const [first, second] = [await calibrate(a), await calibrate(b)];
    for (const [key, values] of first.parameters) {
      expect(relativeToLargest(second.parameters.get(key)!, values), key).toBeLessThan(1e-5);
    }
  });

  test("is nothing where teacher and student are one model, and the routers stay", async () => {
    const given = setUp({}, { student: teacher, heldOut });
    const { heldOutBefore, keptStep } = await calibrate(given);
    expect(Math.abs(updates(given.lines)[0]!.loss)).toBeLessThan(1e-6);
    expect(Math.abs(heldOutBefore!)).toBeLessThan(1e-6);
    expect(keptStep).toBeGreaterThanOrEqual(0);
  });

  test("of the next token (lm) is the student's mean -log p", async () => {
    const given = setUp({ loss: "lm", batch: 12 });
    await calibrate(given);
    const logits = await logitsOf(student, training);
    const nll = targetRows(training).map((row) => -logSoftmax(logits[row]!)[training.ids[row + 1]!]!);
    expect(updates(given.lines)[0]!.loss / mean(nll)).toBeCloseTo(1, 5);
  });

  test("uses the teacher's own head where it has another", async () => {
    const folder = path.join(temporaryFolder(), "teacher");
    const other = await copyWithChange(teacher.checkpoint.directory, folder, "lm_head.weight", (values) => {
      values.forEach((value, i) => (values[i] = value * (i % 3 === 0 ? 1.5 : 0.8)));
    });
    const given = setUp({ batch: 12 }, { teacher: other });
    await calibrate(given);
    const [t, s] = [await logitsOf(other, training), await logitsOf(student, training)];
    const expected = mean(targetRows(training).map((row) => kl(t[row]!, s[row]!)));
    const shared = mean((await logitsOf(teacher, training)).map((row, i) => kl(row, s[i]!)));
    expect(updates(given.lines)[0]!.loss / expected).toBeCloseTo(1, 4);
    expect(Math.abs(expected - shared) / expected).toBeGreaterThan(0.01);
  });
});

describe("the loop", () => {
  test("brings the loss down, and keeps the best look at the held-out set", async () => {
    const given = setUp({ epochs: 8, learningRate: 2e-2 }, { heldOut: training });
    const { heldOutBefore, heldOutAfter, keptStep, totalUpdates } = await calibrate(given);
    expect(totalUpdates).toBe(24);
    expect(updates(given.lines).map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    expect(heldOutAfter!).toBeLessThan(0.9 * heldOutBefore!);
    const seen = looks(given.lines);
    expect(seen.map(({ step }) => step)).toEqual(Array.from({ length: 25 }, (_, i) => i));
    const lowest = Math.min(...seen.map(({ kl: value }) => value));
    expect(heldOutAfter).toBe(lowest);
    expect(seen.find(({ step }) => step === keptStep)!.kl).toBe(lowest);
    // The held-out KL before training is the KL of the logits.
    const [t, s] = [await logitsOf(teacher, training), await logitsOf(student, training)];
    expect(heldOutBefore! / mean(targetRows(training).map((row) => kl(t[row]!, s[row]!)))).toBeCloseTo(1, 4);
  });

  test("stops after `patience` looks without a new best", async () => {
    // A learning rate far too high: the held-out KL only rises.
    const given = setUp({ epochs: 8, learningRate: 3, patience: 2, clip: 100 }, { heldOut });
    const { keptStep } = await calibrate(given);
    const last = updates(given.lines).at(-1)!.step;
    expect(last).toBeLessThan(24);
    expect(
      looks(given.lines)
        .slice(-2)
        .map(({ best }) => best),
    ).toEqual([false, false]);
    expect(keptStep).toBe(looks(given.lines).findLast(({ best }) => best)!.step);
  });

  test("the same command twice gives the same bytes", async () => {
    const runs = await Promise.all(
      [0, 1].map(async () => {
        const given = setUp({ epochs: 2 }, { heldOut });
        const { parameters } = await calibrate(given);
        return { parameters, state: await readFile(path.join(given.stateDirectory, "train-state.safetensors")) };
      }),
    );
    expect(runs[1]!.parameters).toEqual(runs[0]!.parameters);
    expect(runs[1]!.state.equals(runs[0]!.state)).toBe(true);
  });

  test("cancelling in the middle of an update leaves the state before it, which continues to the same bytes", async () => {
    const undisturbed = setUp({ epochs: 2 }, { heldOut });
    const expected = await calibrate(undisturbed);
    const abort = new AbortController();
    const given = setUp({ epochs: 2 }, { heldOut });
    const cancelled = calibrate({
      ...given,
      signal: abort.signal,
      onMetrics: (line) => {
        // While the state is written: the next update notices it before its first layer.
        if (line.kind === "held-out" && line.step === 3) setImmediate(() => abort.abort());
      },
    });
    await expectError(() => cancelled, "cancelled");
    const state = await loadState(path.join(given.stateDirectory, "train-state.safetensors"), stateKey(given));
    expect(state!.step).toBe(3);
    const resumedFrom: number[] = [];
    const continued = await calibrate({ ...given, onResume: (step) => void resumedFrom.push(step) });
    expect(resumedFrom).toEqual([3]);
    expect(continued).toEqual(expected);
    expect(updates(given.lines)[0]!.step).toBe(4);
  });

  test.runIf(process.platform === "linux")(
    "held-out states of the teacher are read as they are needed, and closed whatever happens",
    async () => {
      const openFiles = () => readdirSync("/proc/self/fd").length;
      const read = vi.spyOn(TeacherTargets.prototype, "read");
      const abort = new AbortController();
      // Nothing fits into memory, so hidden states lie in scratch files.
      const given = setUp({}, { heldOut, runtime: { ...runtime, memoryBudgetBytes: 1 }, signal: abort.signal });
      const compare = vi
        .spyOn(VocabularyHead.prototype, "compare")
        .mockImplementationOnce(async (hidden, teacherRows) => {
          expect(teacherRows).toBeInstanceOf(StoredHiddenStates);
          expect(hidden).toBeInstanceOf(FileHiddenStates);
          abort.abort();
          return Promise.reject(new RerouteError("cancelled", "cancelled"));
        });
      const before = openFiles();
      await expectError(() => calibrate(given), "cancelled");
      expect(openFiles()).toBe(before);
      compare.mockRestore();
      await calibrate({ ...given, signal: new AbortController().signal });
      expect(read.mock.calls.every(([numbers]) => numbers.length === 4)).toBe(true);
      expect(openFiles()).toBe(before);
      read.mockRestore();
    },
  );

  test("a first held-out evaluation that is not finite ends the calibration", async () => {
    const rows = { kl: new Float32Array(40).fill(NaN), nll: new Float32Array(40), agreement: new Float32Array(40) };
    const compare = vi.spyOn(VocabularyHead.prototype, "compare").mockResolvedValue(rows);
    await expectError(() => calibrate(setUp({}, { heldOut })), "training/not-finite");
    compare.mockRestore();
  });

  test("a state of other inputs is not continued", async () => {
    const first = setUp({ epochs: 1 });
    await calibrate(first);
    const changes: Partial<CalibrationOptions>[] = [
      { seed: 43 },
      { options: { ...first.options, learningRate: 2e-2 } },
      { training: randomSequences(9, 12, 10) },
      { teacher: { ...teacher, fingerprint: "other" } },
    ];
    for (const change of changes) {
      const steps: number[] = [];
      const fresh = setUp({ epochs: 1 }, change);
      const expected = await calibrate(fresh);
      const reused = await calibrate({
        ...first,
        ...change,
        onResume: (step) => void steps.push(step),
      });
      expect(steps).toEqual([-1]);
      expect(reused.parameters).toEqual(expected.parameters);
    }
  });
});

describe("the calibrated checkpoint", () => {
  test.each(["checkpoint", "float32"] as const)("differs in routers only (written as %s)", async (routerDtype) => {
    const { heldOut: none, options, onMetrics, stateDirectory } = setUp({ epochs: 2, routerDtype });
    const directory = path.join(temporaryFolder(), "calibrated");
    await liveWork.calibrate({
      training,
      heldOut: none,
      options,
      onMetrics,
      stateDirectory,
      seed: 42,
      runtime,
      student,
      teacher,
      signal: new AbortController().signal,
      report: () => undefined,
      output: {
        directory,
        runId: "test",
        provenance: { schemaVersion: 1, plan: null, reroute: "0.0.0", recipe: null, seed: 42, versions: {} },
      },
    });
    await completeOutput(directory);
    const written = await openCheckpoint(directory);
    const [before, after] = [await tensorDigests(student.checkpoint), await tensorDigests(written)];
    const routers = moeLayers(student.description).map(({ moe: { router } }) => router.weight.tensor);
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    const changed = [...before].filter(([name, digest]) => after.get(name) !== digest).map(([name]) => name);
    expect(changed.sort()).toEqual(routers.sort());
    for (const name of routers) {
      expect(written.tensors.get(name)!.dtype).toBe(routerDtype === "float32" ? "F32" : "BF16");
      expect(written.tensors.get(name)!.shape).toEqual(student.checkpoint.tensors.get(name)!.shape);
    }
    expect(written.config).toEqual(student.checkpoint.config);
  });
});

describe("NaN and infinity", () => {
  const poison = (values: Float32Array) => values.fill(NaN);
  const inLayer1 = "model.layers.1.self_attn.o_proj.weight";

  test.each([
    ["attention", inLayer1, ["attention of layer 1"]],
    ["an expert", "model.layers.2.mlp.experts.0.down_proj.weight", ["feed-forward part of layer 2"]],
    ["a router", "model.layers.0.mlp.gate.weight", ["feed-forward part of layer 0"]],
    ["the head", "lm_head.weight", ["vocabulary head"]],
  ])("in %s of the student stop with the layer's name", async (_, tensor, mentions) => {
    const broken = await copyWithChange(
      student.checkpoint.directory,
      path.join(temporaryFolder(), "s"),
      tensor,
      poison,
    );
    const given = setUp({}, { student: broken });
    await expectError(() => calibrate(given), "training/not-finite", "Update 1", ...mentions);
    expect(existsSync(path.join(given.stateDirectory, "train-state.safetensors"))).toBe(false);
    expect(given.lines).toEqual([]);
  });

  test("in the teacher stop before anything trains", async () => {
    const folder = path.join(temporaryFolder(), "t");
    const broken = await copyWithChange(teacher.checkpoint.directory, folder, inLayer1, poison);
    await expectError(() => calibrate(setUp({}, { teacher: broken })), "checkpoint/not-finite", "attention of layer 1");
  });

  test("that appear while training stop with the state before them on disk", async () => {
    const given = setUp({ epochs: 4, learningRate: 1e37, warmup: 0 });
    const failed = calibrate(given);
    await expectError(() => failed, "training/not-finite", "layer", "the state before it is kept");
    const state = await loadState(path.join(given.stateDirectory, "train-state.safetensors"), stateKey(given));
    expect(state!.step).toBeGreaterThan(0);
    await expectError(() => failed, "training/not-finite", `Update ${state!.step + 1} `);
    expect(updates(given.lines)).toHaveLength(state!.step);
    expect([...state!.parameters.values()].every((values) => values.every(Number.isFinite))).toBe(true);
  });
});

async function readRouter(directory: string, tensor: string): Promise<Float32Array> {
  return readFloat32((await openCheckpoint(directory)).tensors.get(tensor)!);
}
