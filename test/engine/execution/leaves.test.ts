import { describe, expect, it } from "vitest";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { pickSequences } from "../../../src/engine/execution/batches";
import { chunksOf, LeafSums, leavesOf, type Leaves } from "../../../src/engine/execution/leaves";
import type { ExecutionPlan } from "../../../src/engine/execution/memoryPlan";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import { statisticsFields } from "../../../src/engine/routing/layerStatistics";
import { createRandom } from "../../../src/engine/tensor/random";
import { addNamed, TreeFold } from "../../../src/engine/tensor/treeFold";
import { goldenCheckpoint } from "../../support/goldens";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

describe("a tree over leaves", () => {
  const join = (left: string, right: string) => `(${left}${right})`;
  const of = (letters: string) => {
    const tree = new TreeFold(join);
    for (const letter of letters) tree.add(letter);
    return tree.take();
  };

  it.each([
    ["", null],
    ["a", "a"],
    ["abcd", "((ab)(cd))"],
    ["abcdef", "(((ab)(cd))(ef))"],
    ["abcdefg", "(((ab)(cd))((ef)g))"],
  ])("joins %o as %o", (letters, joined) => {
    expect(of(letters)).toBe(joined);
  });

  it("is the same where aligned parts were joined elsewhere", () => {
    for (let size = 1; size <= 4; size *= 2)
      for (let count = 1; count < 20; count++) {
        const letters = Array.from({ length: count }, (_, i) => String.fromCharCode(97 + i));
        const tree = new TreeFold(join);
        for (let at = 0; at < count; at += size)
          tree.add(of(letters.slice(at, at + size).join(""))!, Math.min(size, count - at));
        expect(tree.take()).toBe(of(letters.join("")));
      }
  });

  it("refuses what is not a node of it", () => {
    const tree = new TreeFold(join);
    tree.add("a");
    expect(() => tree.add("(bc)", 2)).toThrow("no node of 2 leaves follows 1");
  });
});

describe("sums by leaves", () => {
  const leaves = leavesOf(5, { leaf: 10, block: 40 });

  it.each([
    [1, [5, 10, 15, 20, 25, 30, 35]],
    [2, [10, 20, 30, 35]],
    [3, [10, 20, 30, 35]],
  ])("cut chunks of %i sequences at the ends of leaves", (chunk, ends) => {
    expect(chunksOf(35, chunk, leaves).map(([, to]) => to)).toEqual(ends);
  });

  it("are one after another in a leaf, in a tree in a block, and blocks one after another", () => {
    const join = (left: { text: string }, right: { text: string }) => ({ text: `(${left.text}${right.text})` });
    const sums = new LeafSums(leaves, () => ({ text: "" }), join);
    expect(sums.total()).toBeNull();
    for (let token = 0; token < 70; token += 5) sums.at(token).text += String.fromCharCode(97 + token / 5);
    expect(sums.total()!.text).toBe("(((abcd)(efgh))((ijkl)mn))");
    // Nodes that were made elsewhere, after blocks that are done.
    const others = new LeafSums(leaves, () => ({ text: "" }), join, { text: "before" });
    others.add({ text: "(ab)" }, 2);
    others.add({ text: "c" }, 1);
    expect(others.total()!.text).toBe("(before((ab)c))");
  });

  it.each([
    [512, { sequences: 16, perBlock: 16, sequenceLength: 512 }],
    [3000, { sequences: 2, perBlock: 16, sequenceLength: 3000 }],
    [2 ** 18, { sequences: 1, perBlock: 1, sequenceLength: 2 ** 18 }],
  ])("of sequences of %i tokens", (sequenceLength, expected: Leaves) => {
    expect(leavesOf(sequenceLength)).toEqual(expected);
  });
});

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

describe.each(daily(2, ["qwen3_moe", "deepseek_v3", "gpt_oss", "granitemoe", "llama4_text"]))("%s", (family) => {
  const sequenceLength = 10;

  it("is profiled to the same bits whatever the chunks and threads", async () => {
    const model = await openModel(goldenCheckpoint(family));
    const { vocabSize } = model.description;
    const text = {
      lengths: [10, 7, 10, 4, 10, 10, 9, 10, 3, 10, 10],
      domains: ["prose", "code"],
      vocabSize: Math.min(vocabSize, 100),
    };
    const sequences = randomSequences(5, 11, sequenceLength, text);
    const leaves = leavesOf(sequenceLength, { leaf: 40, block: 80 });
    const profiled = async (memoryBudgetBytes: number, threads: number) => {
      const statistics = new RoutingStatistics({
        ...{ checkpoint: "", fingerprint: "", sequences, renormalises: true },
        leaves,
      });
      let chunks = 0;
      await profileCheckpoint({
        ...{ ...model, sequences, leaves, collectOutputs: true, scratchDirectory: temporaryFolder() },
        runtime: { ...runtime, threads, memoryBudgetBytes },
        observer: {
          observe: (seen) => {
            chunks++;
            statistics.observe(seen);
          },
          afterLayer: (layer) => statistics.afterLayer(layer),
        },
      });
      return { chunks, layers: statistics.result().layers };
    };
    const large = await profiled(2e9, 1);
    for (const [budget, threads] of [
      [1, 1],
      [1, 2],
      [2e9, 3],
    ] as const) {
      const other = await profiled(budget, threads);
      expect(other.chunks > large.chunks).toBe(budget === 1);
      expect(other.layers).toEqual(large.layers);
      for (const field of statisticsFields) expect(other.layers[0]![field], field).toEqual(large.layers[0]![field]);
    }
  });

  it("has the router gradients of its batch from aligned parts of it, whatever the chunks", async () => {
    const model = await openModel(goldenCheckpoint(family));
    const text = { lengths: [10, 7, 10, 10, 4, 10], vocabSize: Math.min(model.description.vocabSize, 100) };
    const sequences = randomSequences(5, 6, sequenceLength, text);
    const options = calibrateOptions.parse({ loss: "lm" });
    const numTargets = sequences.lengths.reduce((sum, length) => sum + length - 1, 0);
    const part = async (numbers: number[], plan: Partial<ExecutionPlan>) => {
      const executor = await ModelExecutor.open({
        ...{ ...model, sequenceLength, runtime, scratchDirectory: temporaryFolder(), direction: "backward" },
      });
      Object.assign(executor.plan, plan);
      const head = new VocabularyHead(model, executor.sessions, executor.plan.headPositions);
      const batch = { sequences: pickSequences(sequences, numbers), numbers, numTargets };
      const found = await lossAndGradients(executor, head, batch, null, options, undefined);
      await executor.close();
      return found;
    };
    const whole = await part([0, 1, 2, 3, 4, 5], {});
    expect(await part([0, 1, 2, 3, 4, 5], { chunkSequences: 4, attentionSequences: 3, headPositions: 7 })).toEqual(
      whole,
    );
    const tree = new TreeFold<Awaited<ReturnType<typeof part>>>((left, right) => ({
      loss: left.loss + right.loss,
      gradients: addNamed(left.gradients, right.gradients),
    }));
    for (const [numbers, plan] of [
      [[0, 1], {}],
      [[2, 3], { chunkSequences: 1 }],
      [[4, 5], {}],
    ] as const)
      tree.add(await part([...numbers], plan), numbers.length);
    expect(tree.take()).toEqual(whole);
  });
});

it("adds rows one after another in float32, as a sum over the first axis does", () => {
  const random = createRandom(3);
  const values = Float32Array.from({ length: 100 }, () => random.normal() * 10 ** random.below(6));
  const inOrder = values.reduce((sum, value) => Math.fround(sum + value), 0);
  expect(new Float32Array([inOrder])[0]).not.toBe(Math.fround(values.reduce((sum, value) => sum + value, 0)));
});
