import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { serveEngineThread } from "../../src/engine/partThreads";
import { isPartThread } from "../../src/engine/runtime/sideBySide/partThread";
import { setThreadProgram } from "../../src/engine/runtime/sideBySide/partThreads";
import { fakeWorkersBench, serveFakeWorkers } from "./fakeWorkers";
import { familiesBench } from "./familiesBench";
import { executionProviders, type ExecutionProvider } from "../../src/protocol/recipe";
import { generateBench } from "./generateBench";
import { gpuBench } from "./gpuBench";
import { layerBench } from "./layerBench";
import { loadedBench } from "./loadedBench";
import { methodsBench } from "./methodsBench";
import { methodWork, type MethodJob } from "./methodWork";
import { largeBench, largeLayers, seriesBench, seriesNames, tensorsBench } from "./scale";
import { peersBench } from "./peers/peersBench";
import { previewBench } from "./previewBench";
import { quantisedBench } from "./quantisedBench";
import { sampleBench } from "./sampleBench";
import { queueBench, workersBench } from "./workersBench";

/** `npm run bench`: every figure is a ratio against a baseline of the same run, because machines are shared. */
async function main(): Promise<void> {
  const runtime = { threads: availableParallelism(), provider: "cpu", memoryBudgetBytes: 8 * 2 ** 30 } as const;
  const print = (line: string) => console.log(line);
  const only = process.argv[2];
  if (only === "method") {
    // One method in a process of its own, started by methodsBench: its result is the only output.
    console.log(JSON.stringify(await methodWork(JSON.parse(process.argv[3]!) as MethodJob)));
    return;
  }
  if (only === "fake-workers") {
    // With a URL: the crowd, started by the bench itself.
    await (process.argv[3] === undefined ? fakeWorkersBench(print) : serveFakeWorkers(process.argv[3]));
    return;
  }
  if (only === undefined || only === "layer") {
    print("Qwen3-30B-shaped layer, 4096 tokens, bf16 weights on disk");
    await layerBench(runtime, 3, print);
  }
  if (only === undefined || only === "families") {
    print("Every family's forward at equal sizes, as a share of qwen3_moe's");
    await familiesBench(runtime, familiesOptions(only === undefined ? [] : process.argv.slice(3)), print);
  }
  if (only === undefined || only === "sample") {
    print("Sample model");
    await sampleBench(runtime, print);
  }
  if (only === undefined || only === "methods") {
    print("Every compression method on one Qwen3-30B-shaped layer, keep 62.5 %");
    await methodsBench(runtime, process.argv[3], print);
  }
  if (only === "gpu") {
    const { values } = parseArgs({
      args: process.argv.slice(3),
      options: { provider: { type: "string", default: "webgpu" } },
    });
    const provider = values.provider as ExecutionProvider;
    if (!executionProviders.includes(provider)) throw new Error(`--provider takes ${executionProviders.join(", ")}`);
    print(`A graphics card through ${provider}`);
    await gpuBench({ ...runtime, provider }, print);
    return;
  }
  if (only === "generate") {
    print("Decoding many sequences against one, and a dense checkpoint against transformers");
    await generateBench(runtime, process.argv.slice(3), print);
  }
  if (only === "loaded") {
    print("Sample model, executors as chosen against one, beside foreign load");
    await loadedBench(runtime, Number(process.argv[3] ?? 5), print);
  }
  if (only === "preview") {
    print("Layer shaped like Qwen3-30B-A3B's, 16 of its experts, bf16 weights on disk: precision preview");
    await previewBench(runtime, Number(process.argv[3] ?? 3), print);
  }
  if (only === "quantised") {
    print("Layers shaped like Qwen3-30B-A3B's on quantised experts, against bf16");
    await quantisedBench(runtime, Number(process.argv[3] ?? 5), print);
  }
  if (only === "peers") {
    print("Reroute and PyTorch in turns");
    await peersBench(runtime, process.argv.slice(3), print);
  }
  if (only === "scale") await scale(process.argv[3], print);
}

/** `families [FAMILY...] [--rounds 3]`: some beside qwen3_moe; with one round, one after another takes the place of the last. */
function familiesOptions(args: string[]): { rounds: number; only: string[] } {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { rounds: { type: "string", default: "3" } },
  });
  const rounds = Number(values.rounds);
  if (!(rounds >= 1)) throw new Error("--rounds takes a number of at least 1");
  return { rounds, only: positionals };
}

/** `scale [layers|experts|tokens] [--repeats 3]`, `scale large [--layers 10]`, `scale tensors`. */
async function scale(what: string | undefined, print: (line: string) => void): Promise<void> {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(3),
    allowPositionals: true,
    options: { repeats: { type: "string", default: "3" }, layers: { type: "string", default: `${largeLayers}` } },
  });
  const [repeats, layers] = [values.repeats, values.layers].map(Number) as [number, number];
  if (!(repeats >= 1 && layers >= 1)) throw new Error("--repeats and --layers take a number of at least 1");
  const isAll = what === undefined || what.startsWith("--");
  const names = seriesNames.filter((name) => isAll || what === name);
  if (names.length > 0) {
    print("Peak memory and time against layers, experts and tokens");
    await seriesBench(names, repeats, print);
  } else if (what === "workers") {
    print("Profiles by one and by two workers of one thread");
    await workersBench(positionals[1], print);
  } else if (what === "queue") {
    print("Router KD of the sample with and without a queue");
    await queueBench(repeats, print);
  } else if (what === "large") {
    print("A checkpoint larger than the budget");
    await largeBench(layers, print);
  } else if (what === "tensors") {
    await tensorsBench(print);
  } else
    throw new Error(
      `bench scale ${what ?? ""}: choose large, tensors, workers, queue, ${seriesNames.join(", ")}, or nothing`,
    );
}

if (isPartThread()) await serveEngineThread();
else {
  setThreadProgram(fileURLToPath(import.meta.url));
  await main();
}
