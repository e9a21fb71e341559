import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { calibrateOptions } from "../../src/protocol/calibrateOptions";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { buildSequences } from "../../src/engine/data/buildSequences";
import { loadTokenizer } from "../../src/engine/data/tokenizer";
import { calibrate } from "../../src/engine/distillation/calibrate";
import { profileCheckpoint } from "../../src/engine/execution/profile";
import { describeModel } from "../../src/engine/model/families";
import { RoutingStatistics } from "../../src/engine/routing/collect";
import type { RuntimeOptions } from "../../src/engine/runtime/session";

/** Tokens a second of profiling and of Router KD updates, teacher included, on the sample model. */
export async function sampleBench(runtime: RuntimeOptions, print: (line: string) => void): Promise<void> {
  const sample = path.resolve("media/sample");
  const checkpoint = await openCheckpoint(path.join(sample, "checkpoint"));
  const { description } = describeModel(checkpoint);
  const tokenizer = await loadTokenizer(checkpoint.directory);
  const sequences = await buildSequences({
    path: path.join(sample, "calibration.jsonl"),
    tokenizer,
    vocabSize: description.vocabSize,
    sequences: 256,
    sequenceLength: 256,
    packing: "packed",
  });
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-bench-"));
  const rate = async (work: () => Promise<unknown>) => {
    const cpu = process.cpuUsage();
    const started = performance.now();
    await work();
    const seconds = (performance.now() - started) / 1e3;
    const used = process.cpuUsage(cpu);
    const cpuSeconds = (used.user + used.system) / 1e6;
    const tokens = sequences.ids.length;
    return `${(tokens / seconds).toFixed(0)} tokens/s (${(tokens / cpuSeconds).toFixed(0)} a processor second)`;
  };
  try {
    const observer = new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: true });
    const model = { checkpoint, description };
    const profile = { ...model, sequences, observer, collectOutputs: true, runtime, scratchDirectory: directory };
    print(`  profile: ${await rate(() => profileCheckpoint(profile))}`);
    const source = { ...model, fingerprint: "sample" };
    const options = calibrateOptions.parse({ learningRate: 1e-3, keepStep: "last" });
    const common = { student: source, teacher: source, training: sequences, heldOut: null, options, seed: 42, runtime };
    const work = () => calibrate({ ...common, stateDirectory: directory, onMetrics: () => undefined });
    print(`  Router KD, teacher included: ${await rate(work)}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
