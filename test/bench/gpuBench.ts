import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { runForwardProbe } from "../../src/engine/execution/probe";
import { examineProvider } from "../../src/engine/execution/providerCheck";
import { describeModel } from "../../src/engine/model/families";
import { askedDrivers, graphicsCards } from "../../src/engine/run/machine/gpus";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { probeRuntime } from "../../src/engine/runtime/session";
import { makeCheckpoint } from "./makeCheckpoint";
import { relativeToLargest } from "../support/goldens";
import { layerBench } from "./layerBench";

/**
 * What a graphics card does, in under five minutes on a real one: the card, the node by node check and the speed of
 * products, the sample's forward pass, loss and backward pass against the CPU (its own weights, a teacher of random ones), and a
 * layer of the shape of Qwen3-30B-A3B. The steps before one that fails are printed.
 */
export async function gpuBench(runtime: RuntimeOptions, print: (line: string) => void): Promise<void> {
  const { version, providers } = await probeRuntime();
  print(`  onnxruntime ${version}, providers ${providers.join(", ")}`);
  print(`  cards: ${graphicsCards().join(", ") || "none"}; drivers: ${askedDrivers(process.env) ?? "the system's"}`);
  const { wrong, speed } = await timed("check", print, () => examineProvider(runtime.provider));
  if (wrong !== null) throw new Error(`${runtime.provider} computes ${wrong.op} wrongly: ${JSON.stringify(wrong)}`);
  print(`  products at ${speed.toPrecision(3)} times the CPU's speed`);
  await sample(runtime, print);
  print("  a layer of the shape of Qwen3-30B-A3B:");
  await layerBench(runtime, 1, print);
}

async function sample(runtime: RuntimeOptions, print: (line: string) => void): Promise<void> {
  const open = async (folder: string) => {
    const checkpoint = await openCheckpoint(folder);
    return { checkpoint, description: describeModel(checkpoint).description };
  };
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-gpu-"));
  try {
    const model = await open("media/sample/checkpoint");
    const { vocabSize, hiddenSize } = model.description;
    const shape = {
      numLayers: 1,
      numExperts: 8,
      numExpertsPerToken: 2,
      moeIntermediateSize: 64,
      vocabSize,
      hiddenSize,
    };
    const teacherFolder = path.join(directory, "teacher");
    await makeCheckpoint({ directory: teacherFolder, family: "qwen3_moe", shape });
    const teacher = await open(teacherFolder);
    const [batch, positions] = [8, 64];
    const inputIds = Int32Array.from({ length: batch * positions }, (_, i) => (i * 7919) % vocabSize);
    const probe = (provider: RuntimeOptions["provider"]) =>
      runForwardProbe({
        ...{ model, teacher, inputIds, batch, positions, scratchDirectory: directory },
        runtime: { ...runtime, provider },
      });
    const expected = await timed("sample on the CPU", print, () => probe("cpu"));
    const actual = await timed(`sample on ${runtime.provider}, compiling included`, print, () =>
      probe(runtime.provider),
    );
    const worst = new Map<string, number>();
    for (const [name, { data }] of expected) {
      if (!(data instanceof Float32Array)) continue;
      const kind = name.split(".")[0]!;
      const error = relativeToLargest(actual.get(name)!.data as Float32Array, data);
      worst.set(kind, Math.max(error, worst.get(kind) ?? 0));
    }
    print(
      `  largest differences: ${[...worst].map(([kind, error]) => `${kind} ${error.toExponential(1)}`).join(", ")}`,
    );
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function timed<T>(what: string, print: (line: string) => void, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await work();
  print(`  ${what}: ${((performance.now() - started) / 1e3).toFixed(1)} s`);
  return result;
}
