import { existsSync, readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { FileHiddenStates, MemoryHiddenStates } from "../../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { Tape } from "../../../src/engine/execution/tape";
import { planExecution, type ExecutionPlan } from "../../../src/engine/execution/memoryPlan";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { describeModel } from "../../../src/engine/model/families/index";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCheckpoint, relativeToLargest } from "../../support/goldens";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";

const [numSequences, sequenceLength] = [6, 9];
const inMemory = 1e15;

/** Final hidden states, their logits and loss, and router gradients of one batch under a plan. */
async function runBatch(family: string, change: Partial<ExecutionPlan>, memoryBudgetBytes = 2e9) {
  const checkpoint = await openCheckpoint(goldenCheckpoint(family));
  const { description } = describeModel(checkpoint);
  const scratchDirectory = temporaryFolder();
  const executor = await ModelExecutor.open({
    checkpoint,
    description,
    sequenceLength,
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes },
    direction: "backward",
    scratchDirectory,
  });
  Object.assign(executor.plan, change);
  const random = createRandom(11);
  const ids = Int32Array.from({ length: numSequences * sequenceLength }, () => random.below(description.vocabSize));
  const labels = ids.map((id) => (id * 7 + 3) % description.vocabSize);
  const tape = new Tape();
  try {
    const chunks: number[] = [];
    const hidden = await executor.forward({ ids }, { tape, onChunk: (tokens) => chunks.push(tokens) });
    const states = hidden.read(0, ids.length).slice();
    const head = new VocabularyHead({ checkpoint, description }, executor.sessions, executor.plan.headPositions);
    const rowWeights = new Float32Array(ids.length).fill(1 / ids.length);
    const loss = await head.lossAndGradient(hidden, { teacherHidden: null, labels }, rowWeights, {
      loss: "lm",
      temperature: 1,
    });
    const isSpilled = hidden instanceof FileHiddenStates;
    const gradients = await executor.backward(tape, hidden);
    hidden.close();
    return { states, loss, gradients, chunks, isSpilled };
  } finally {
    tape.close();
    await executor.close();
    expect(readdirSync(scratchDirectory)).toEqual([]);
  }
}

type Batch = Awaited<ReturnType<typeof runBatch>>;

function expectClose(actual: Batch, expected: Batch, tolerance: number): void {
  expect(relativeToLargest(actual.states, expected.states)).toBeLessThanOrEqual(tolerance);
  expect(relativeToLargest(actual.loss, expected.loss)).toBeLessThanOrEqual(tolerance);
  for (const [key, gradient] of expected.gradients) {
    expect(relativeToLargest(actual.gradients.get(key)!, gradient), key).toBeLessThanOrEqual(tolerance);
  }
}

const families = ["deepseek_v3", "gpt_oss", "qwen2_moe", "qwen3_moe"];

describe.each(daily(2, families))("%s", (family) => {
  test("many chunks give what one chunk gives", async () => {
    const whole = await runBatch(family, { chunkSequences: 6, attentionSequences: 6, headPositions: 1000 });
    expect(Math.max(...whole.chunks)).toBe(numSequences * sequenceLength);
    const cuts: Partial<ExecutionPlan>[] = [
      { chunkSequences: 6, attentionSequences: 1, headPositions: 1 },
      { chunkSequences: 4, attentionSequences: 3, headPositions: 7 },
      { chunkSequences: 1, attentionSequences: 1, headPositions: 50, sessionBytes: 0 },
    ];
    for (const cut of cuts) expectClose(await runBatch(family, cut), whole, 1e-5);
  });

  test("hidden states on disk give the same bytes as in memory", async () => {
    const cut = { chunkSequences: 2, attentionSequences: 1, headPositions: 13 };
    const memory = await runBatch(family, { ...cut, hiddenStateBytes: inMemory });
    const disk = await runBatch(family, { ...cut, hiddenStateBytes: 0 });
    expect([memory.isSpilled, disk.isSpilled]).toEqual([false, true]);
    expectClose(disk, memory, 0);
  });
});

test("the smallest budget runs one sequence at a time, spilled, and agrees", async () => {
  const checkpoint = await openCheckpoint(goldenCheckpoint("qwen3_moe"));
  const { description } = describeModel(checkpoint);
  const plan = planExecution(description, sequenceLength, 1, "backward");
  expect(plan).toMatchObject({ chunkSequences: 1, attentionSequences: 1, headPositions: 1, keepFloat32Weights: false });
  const small = await runBatch("qwen3_moe", {}, 1);
  expect(small.isSpilled).toBe(true);
  expect(small.chunks.every((tokens) => tokens === sequenceLength)).toBe(true);
  expectClose(small, await runBatch("qwen3_moe", {}), 1e-5);
});

describe("hidden-state stores", () => {
  test("a file holds what memory holds, whatever the order of writes", () => {
    const [tokens, width] = [50, 3];
    const directory = temporaryFolder();
    const [memory, file] = [new MemoryHiddenStates(tokens, width), new FileHiddenStates(tokens, width, directory)];
    const random = createRandom(1);
    for (let i = 0; i < 40; i++) {
      const from = random.below(tokens);
      const to = from + 1 + random.below(tokens - from);
      const rows = Float32Array.from({ length: (to - from) * width }, () => random.normal());
      for (const store of [memory, file]) store.write(from, rows);
      const at = random.below(tokens);
      expect(file.read(at, tokens)).toEqual(memory.read(at, tokens).slice());
    }
    file.close();
    file.close();
    expect(readdirSync(directory)).toEqual([]);
  });

  // Windows cannot unlink open files: there, a killed process leaves its scratch files behind.
  test.skipIf(process.platform === "win32")("a killed process leaves no scratch file behind", () => {
    const directory = temporaryFolder();
    const file = new FileHiddenStates(10, 4, directory);
    expect(existsSync(directory)).toBe(true);
    expect(readdirSync(directory)).toEqual([]);
    file.write(9, Float32Array.of(1, 2, 3, 4));
    expect(Array.from(file.read(9, 10))).toEqual([1, 2, 3, 4]);
    file.close();
  });
});
