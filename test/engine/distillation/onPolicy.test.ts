import { readdirSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { initAdamW, clipGlobalNorm, updateAdamW } from "../../../src/engine/distillation/adamW";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import type { CalibrationOptions } from "../../../src/engine/distillation/calibration";
import { readSafetensorsFile } from "../../../src/engine/checkpoint/safetensorsFile";
import { withTextDefaults } from "../../../src/engine/distillation/onPolicyOptions";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { learningRateAt } from "../../../src/engine/distillation/schedule";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { studentRound } from "../../../src/engine/distillation/studentRound";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { nextTokens, pickSequences } from "../../../src/engine/execution/batches";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { Decoder } from "../../../src/engine/generation/decoder";
import { planDecoding } from "../../../src/engine/generation/decodingPlan";
import { generate } from "../../../src/engine/generation/generate";
import { generationSettings } from "../../../src/engine/generation/settings";
import { shuffledOrder } from "../../../src/engine/tensor/random";
import type { OpenModel } from "../../../src/engine/run/work";
import type { MetricsLine } from "../../../src/protocol/metrics";
import { calibrateOptions, type CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { openStudent, openTeacher } from "../../support/distillationGoldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const training = randomSequences(1, 6, 10, { lengths: [10, 7, 10, 10, 4, 10] });
const heldOut = randomSequences(2, 2, 10);
const policy = { share: 1, promptTokens: 4, roundUpdates: 1, replay: 0, temperature: 1 };
const shared = { batch: 2, learningRate: 1e-2, evaluateEvery: 2, keepStep: "last", scope: "feed-forward" } as const;
let teacher: OpenModel;
let student: OpenModel;

beforeAll(async () => {
  [teacher, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
});

function optionsOf(change: Partial<CalibrateOptions>): CalibrateOptions {
  return calibrateOptions.parse({ ...shared, divergence: "reverse", onPolicy: policy, ...change });
}

async function train(change: Partial<CalibrateOptions>, more: Partial<CalibrationOptions> = {}) {
  const lines: MetricsLine[] = [];
  const options = optionsOf(change);
  const { parameters } = await calibrate({
    ...{ student, teacher, training, heldOut, options, seed: 7, runtime, stateDirectory: temporaryFolder() },
    onMetrics: (line) =>
      void lines.push("seconds" in line ? { ...line, seconds: 0, teacherSeconds: 0, writingSeconds: 0 } : line),
    ...more,
  });
  return { parameters: Object.fromEntries([...parameters].map(([key, values]) => [key, [...values]])), lines };
}

function stopAt(line: MetricsLine, step: number): void {
  if (line.kind === "update" && line.step === step) throw new Error("stopped");
}

/** The published loop: in each update the student writes, the teacher reads that, the student learns. */
async function perUpdate(): Promise<Record<string, number[]>> {
  const options = optionsOf({});
  const scratchDirectory = temporaryFolder();
  const trainable = new Set(trainableWeights(student.description, "feed-forward").map(({ key }) => key));
  const half = { ...runtime, memoryBudgetBytes: 1e9 };
  const open = { sequenceLength: 10, runtime: half, scratchDirectory };
  const executor = await ModelExecutor.open({ ...student, ...open, direction: "backward", trainable });
  const source = { source: teacher, sharedHead: false };
  const { trained, plan } = executor;
  const head = new VocabularyHead({ ...student, trainable }, executor.sessions, plan.headPositions, source, trained);
  const optimiser = initAdamW(executor.parameters);
  const order = shuffledOrder(6, 7, 0);
  const settings = await generationSettings(student.checkpoint, {});
  const whole = { doSample: true, temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
  for (let update = 0; update < 3; update++) {
    const sequences = pickSequences(training, order.subarray(update * 2, update * 2 + 2));
    const prompts = [0, 1].map((row) => ({
      number: update * 2 + row,
      ids: sequences.ids.slice(row * 10, row * 10 + Math.min(4, sequences.lengths[row]!)),
    }));
    const decoding = planDecoding(student.description, 1e9, 10, 2);
    const decoder = await Decoder.open({ ...student, runtime: half, plan: decoding, parameters: trained });
    const { responses } = await generate({
      ...{ decoder, prompts, contextLength: 10 },
      settings: { ...settings, ...whole, maxNewTokens: 10, seed: 7, samples: 1, keepsEndToken: true },
    });
    await decoder.close();
    sequences.ids.fill(0);
    prompts.forEach(({ ids }, row) => {
      const all = [...ids, ...responses[row]!.ids];
      sequences.ids.set(all, row * 10);
      sequences.lengths[row] = all.length;
    });
    const written = { ...sequences, promptLengths: Int32Array.from(prompts, ({ ids }) => ids.length) };
    const taught = await TeacherTargets.prepare({
      ...{ teacher, sequences: written, runtime: half, directory: scratchDirectory, stage: "t" },
    });
    const batch = { sequences: written, numbers: [0, 1] };
    const targets = { routerLogits: null, draws: [taught] };
    const { gradients } = await lossAndGradients(executor, head, batch, targets, options, undefined);
    clipGlobalNorm(gradients, options.clip);
    updateAdamW(optimiser, executor.parameters, gradients, learningRateAt(update, 3, options), 0);
  }
  await executor.close();
  return Object.fromEntries([...executor.parameters].map(([key, values]) => [key, [...values]]));
}

describe("a student learns from what it writes", () => {
  test("in rounds of one update as in the loop that has no rounds; longer ones train on what is older", async () => {
    const one = await train({});
    expect(one.parameters).toEqual(await perUpdate());
    const long = await train({ onPolicy: { ...policy, roundUpdates: 3 } });
    expect(long.lines.find(({ kind }) => kind === "update")).toEqual(one.lines.find(({ kind }) => kind === "update"));
    expect(long.parameters).not.toEqual(one.parameters);
  });

  test.each([
    ["stops at an end token, which counts", false],
    ["writes on behind it", true],
  ])("%s, where pastEnd is %s", async (_, pastEnd) => {
    // Every second token ends a text.
    const ends = Array.from({ length: 80 }, (_even, i) => 2 * i);
    const { checkpoint } = student;
    const often = { ...student, checkpoint: { ...checkpoint, config: { ...checkpoint.config, eos_token_id: ends } } };
    const stateDirectory = temporaryFolder();
    const onPolicy = { ...policy, roundUpdates: 3, pastEnd };
    await expect(
      train({ onPolicy }, { student: often, stateDirectory, onMetrics: (line) => stopAt(line, 2) }),
    ).rejects.toThrow("stopped");
    const round = readdirSync(stateDirectory).find((name) => name.startsWith("student-round-"))!;
    const { tensors } = await readSafetensorsFile(path.join(stateDirectory, round));
    const numbers = (name: string) => [...new Int32Array(new Uint8Array(tensors.get(name)!.data).buffer)];
    const [ids, lengths, prompts] = [numbers("ids"), numbers("lengths"), numbers("promptLengths")];
    const written = lengths.map((length, s) => ids.slice(s * 10 + prompts[s]!, s * 10 + length));
    const endsIn = written.map((one) => one.findIndex((id) => id % 2 === 0));
    expect(endsIn.filter((at) => at >= 0).length).toBeGreaterThan(2);
    if (pastEnd) expect(lengths).toEqual(lengths.map(() => 10));
    else for (const [s, at] of endsIn.entries()) expect(written[s]!.length).toBe(at < 0 ? 10 - prompts[s]! : at + 1);
  });

  test.each([
    ["packed", undefined, true],
    ["truncated", undefined, false],
    ["responses", undefined, false],
    ["packed", false, false],
    ["responses", true, true],
  ] as const)("of %s text, pastEnd %s is %s", (packing, asked, pastEnd) => {
    const onPolicy = { ...policy, ...(asked === undefined ? {} : { pastEnd: asked }) };
    expect(withTextDefaults(optionsOf({ onPolicy }), packing).onPolicy!.pastEnd).toBe(pastEnd);
    expect(withTextDefaults(optionsOf({ onPolicy: undefined }), packing).onPolicy).toBeUndefined();
  });

  const aware = { kind: "student-aware", routerLearningRate: 1e-2, roundUpdates: 1, freezeAbove: 1 } as const;
  test.each<[string, Partial<CalibrateOptions>]>([
    ["the teacher's own routing, with replay", { onPolicy: { ...policy, share: 0.5, replay: 0.5, roundUpdates: 2 } }],
    ["routers that train", { teacherRouting: aware, onPolicy: { ...policy, roundUpdates: 2 } }],
  ])("%s: killed after any update, it continues to the same bytes", async (_, options) => {
    const whole = await train(options);
    for (const last of [1, 2]) {
      const stateDirectory = temporaryFolder();
      const onMetrics = (line: MetricsLine) => stopAt(line, last + 1);
      await expect(train(options, { stateDirectory, onMetrics })).rejects.toThrow("stopped");
      expect(readdirSync(stateDirectory).some((name) => name.startsWith("student-round-"))).toBe(true);
      const resumed = await train(options, { stateDirectory });
      expect(resumed.parameters, String(last)).toEqual(whole.parameters);
      const behind = (lines: MetricsLine[]) => lines.filter((line) => "step" in line && line.step > last);
      expect(behind(resumed.lines)).toEqual(behind(whole.lines));
    }
  });
});

describe("a round's sequences", () => {
  const text = randomSequences(3, 4, 8, { lengths: [8, 3, 8, 8] });
  const write = (prompts: readonly { number: number; ids: Int32Array }[], most: number) =>
    Promise.resolve(prompts.map(({ number, ids }) => new Int32Array(most - ids.length).fill(100 + number)));
  const onPolicy = { ...policy, roundUpdates: 2, promptTokens: 5 };

  test("a share is the student's behind its prompt, and of that alone it learns; the others are the text", async () => {
    const half = { ...onPolicy, share: 0.5 };
    const { sequences, written } = await studentRound({ text, before: null, onPolicy: half, write, firstNumber: 20 });
    expect([...written]).toEqual([1, 0, 1, 0]);
    expect([...sequences.ids.subarray(0, 8)]).toEqual([...text.ids.subarray(0, 5), 120, 120, 120]);
    expect([...sequences.ids.subarray(8, 16)]).toEqual([...text.ids.subarray(8, 16)]);
    expect([...sequences.promptLengths!]).toEqual([5, 0, 5, 0]);
    const { isTarget } = nextTokens(sequences);
    expect([...isTarget.subarray(0, 16)]).toEqual([0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]);
  });

  test("a short text is all prompt; replayed sequences are those of the round before", async () => {
    const first = await studentRound({ text, before: null, onPolicy, write, firstNumber: 0 });
    expect([...first.sequences.promptLengths!]).toEqual([5, 3, 5, 5]);
    expect([...first.sequences.lengths]).toEqual([8, 8, 8, 8]);
    const again = { ...onPolicy, replay: 0.5 };
    const second = await studentRound({ text, before: first, onPolicy: again, write, firstNumber: 4 });
    const last = (s: number) => second.sequences.ids[s * 8 + 7];
    expect([0, 1, 2, 3].map(last)).toEqual([100, 105, 102, 107]);
  });
});

test.each<[string, Partial<CalibrateOptions>, RegExp]>([
  ["another loss", { loss: "lm" }, /loss lm has no text/],
  ["a fit of routers", { initialise: "router-logits" }, /reads the text/],
  ["a prompt as long as the sequence", { onPolicy: { ...policy, promptTokens: 10 } }, /leaves nothing to write/],
  [
    "rounds that do not fit",
    {
      teacherRouting: { kind: "student-aware", roundUpdates: 2, freezeAbove: 1 },
      onPolicy: { ...policy, roundUpdates: 3 },
    },
    /must be a multiple/,
  ],
])("refused before anything runs: %s", async (_, change, message) => {
  const stateDirectory = temporaryFolder();
  await expect(train(change, { stateDirectory })).rejects.toThrow(message);
  expect(readdirSync(stateDirectory)).toEqual([]);
});
