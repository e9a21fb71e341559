import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { applyPlan, makePlan } from "../../src/engine/compression/methods";
import { writeCompressedCheckpoint } from "../../src/engine/compression/writeCompressed";
import { MemoryHiddenStates } from "../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../src/engine/execution/modelExecutor";
import { Tape } from "../../src/engine/execution/tape";
import { describeModel } from "../../src/engine/model/families";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import type { CompressionMethod } from "../../src/protocol/methods";
import { compressOptions } from "../../src/protocol/recipe";
import { processorMs } from "../support/processorTime";
import { makeCheckpoint } from "./makeCheckpoint";
import { spreadOf } from "./series";

/** Of Qwen3-30B-A3B's layers; a token goes to half of the experts, so that each sees as many tokens as 128 do of a batch of 8 x 512. */
const shape = { numLayers: 2, vocabSize: 1024, numExperts: 16 };
const tokens = 512;

const students: { name: string; method: CompressionMethod; options: Record<string, number | string> }[] = [
  { name: "4 bits", method: "rtn", options: { bits: 4 } },
  { name: "8 bits", method: "rtn", options: { bits: 8 } },
  { name: "FP8 blocks", method: "fp8", options: {} },
  { name: "MXFP4", method: "mxfp4", options: {} },
];

/**
 * A forward pass and a Router KD update (forward, recompute, input gradients) of two layers with Qwen3-30B-A3B's shapes on quantised
 * experts, by processor time, as shares of the same on the bf16 weights that they were made from, in turns.
 */
export async function quantisedBench(
  runtime: RuntimeOptions,
  rounds: number,
  print: (line: string) => void,
): Promise<void> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  const sides: { name: string; executor: ModelExecutor }[] = [];
  try {
    const source = path.join(directory, "bf16");
    await makeCheckpoint({ directory: source, family: "qwen3_moe", shape });
    sides.push({ name: "bf16", executor: await opened(source, runtime, directory) });
    for (const { name, method, options } of students) {
      const written = await quantised(source, path.join(directory, name), runtime, method, options);
      sides.push({ name, executor: await opened(written, runtime, directory) });
    }
    const times = sides.map(() => ({ forward: [] as number[], update: [] as number[] }));
    for (let round = 0; round <= rounds; round++) {
      const turn = sides.map((_, i) => (i + round) % sides.length);
      for (const i of turn) {
        const { forward, update } = await measured(sides[i]!.executor);
        if (round === 0) continue;
        times[i]!.forward.push(forward);
        times[i]!.update.push(update);
      }
    }
    const base = times[0]!;
    print(`  load ${os.loadavg()[0]!.toFixed(1)}, ${runtime.threads} threads, ${tokens} tokens, ${rounds} rounds`);
    for (const [i, { name }] of sides.entries()) {
      const share = (what: "forward" | "update") => {
        const { median, low, high } = spreadOf(times[i]![what].map((time, round) => time / base[what][round]!));
        return `${what} ${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
      };
      print(`  ${name.padEnd(12)} ${share("forward")}, ${share("update")} of bf16's processor time`);
    }
  } finally {
    for (const { executor } of sides) await executor.close();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Milliseconds of processor time. */
async function measured(executor: ModelExecutor): Promise<{ forward: number; update: number }> {
  const { vocabSize, hiddenSize } = executor.options.description;
  const ids = Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabSize);
  const tape = new Tape();
  const began = processorMs();
  const hidden = await executor.forward({ ids }, { tape });
  const forward = processorMs() - began;
  await executor.backward(tape, new MemoryHiddenStates(tokens, hiddenSize));
  const update = processorMs() - began;
  hidden.close();
  tape.close();
  return { forward, update };
}

async function opened(folder: string, runtime: RuntimeOptions, scratchDirectory: string): Promise<ModelExecutor> {
  const checkpoint = await openCheckpoint(folder);
  const { description } = describeModel(checkpoint);
  return ModelExecutor.open({
    ...{ checkpoint, description, runtime, scratchDirectory },
    ...{ sequenceLength: tokens, direction: "backward" },
  });
}

async function quantised(
  from: string,
  directory: string,
  runtime: RuntimeOptions,
  method: CompressionMethod,
  options: Record<string, number | string>,
): Promise<string> {
  const checkpoint = await openCheckpoint(from);
  const model = { checkpoint, ...describeModel(checkpoint), fingerprint: "bench" };
  const context = {
    ...{ ...model, runtime, seed: 42, statistics: null, sequences: null },
    ...{ options: compressOptions.parse({ method, keep: 1, options }), stateDirectory: `${directory}-state` },
  };
  const plan = await makePlan(context);
  const layers = (await applyPlan(context, plan))!;
  const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };
  await writeCompressedCheckpoint({ ...model, plan, layers, directory, provenance });
  await rm(context.stateDirectory, { recursive: true, force: true });
  return directory;
}
