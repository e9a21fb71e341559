import { mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import type { RuntimeOptions } from "../../../src/engine/runtime/session";
import { gemmRate } from "../gemmRate";
import { compareInTurns, type Comparison } from "./comparison";
import { OwnSide } from "./ownSide";
import { samplePair, syntheticPair, type Pair } from "./pairs";
import { PeerProcess, type PeerBatch } from "./peerProcess";
import { forwardFlops, layerFlops, routerGradientFlops, routerKdFlops } from "./usefulWork";

const parts = ["sample", "vocabulary", "layer"] as const;
type Part = (typeof parts)[number];

/** A released vocabulary on a small body. */
const vocabularyShape = {
  ...{ hiddenSize: 1024, numLayers: 4, numExperts: 64, numExpertsPerToken: 8, moeIntermediateSize: 512 },
  ...{ numHeads: 16, numKeyValueHeads: 4, headDim: 64, vocabSize: 151_936 },
};

/** Two layers of Qwen3-30B-A3B: input gradients flow through the upper one. */
const layerShape = { numLayers: 2, vocabSize: 1024 };

interface Settings {
  python: string;
  rounds: number;
  experts: string;
  runtime: RuntimeOptions;
  directory: string;
  print: (line: string) => void;
}

/**
 * `npm run bench peers [sample|vocabulary|layer] -- --python PATH [--rounds 5] [--threads 2] [--experts eager|grouped_mm]`: the same
 * work by Reroute and by PyTorch in turns, each in a process of its own, with two results that must agree.
 */
export async function peersBench(
  runtime: RuntimeOptions,
  args: string[],
  print: (line: string) => void,
): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      python: { type: "string" },
      rounds: { type: "string", default: "5" },
      experts: { type: "string", default: "eager" },
      threads: { type: "string", default: `${runtime.threads}` },
    },
  });
  const { python, experts } = values;
  const [rounds, threads] = [Number(values.rounds), Number(values.threads)];
  const unknown = positionals.filter((name) => !parts.some((part) => part === name));
  if (python === undefined || !(rounds >= 1 && threads >= 1) || unknown.length > 0)
    throw new Error(
      `bench peers [${parts.join("|")}] --python PATH [--rounds 5] [--threads 2]: a Python with torch and transformers`,
    );
  const wanted = parts.filter((part) => positionals.length === 0 || positionals.includes(part));
  for (const part of wanted) {
    const directory = await mkdtemp(path.join(tmpdir(), "reroute-bench-"));
    try {
      await bench[part]({ python, rounds, experts, runtime: { ...runtime, threads }, directory, print });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
    print(`  load ${loadavg()[0]!.toFixed(1)} at the end of ${part}`);
  }
}

const bench: Record<Part, (settings: Settings) => Promise<void>> = {
  sample: async (settings) => {
    const pair = await samplePair(settings.directory, settings.runtime);
    const [updates, batch] = [4, 8];
    await inTurns(settings, pair, (own, peer, { teacher, student, flops }) => [
      {
        title: `Sample, Router KD, ${batch} sequences an update`,
        flopsPerToken: flops.routerKd,
        ...routerKd(own, peer, { updates, batch, atOnce: batch }),
      },
      {
        title: "Sample, profile",
        ...{ tokens: 64 * 256, flopsPerToken: flops.forward(teacher), tolerance: 1e-3 },
        own: (turn) => own.profile(64 * (turn % 4), 64),
        peer: (turn) => peer.ask({ do: "profile", at_once: 8, ...batchOf(pair, 64 * (turn % 4), 64) }),
      },
      {
        title: "Sample, evaluation of a student against its teacher",
        ...{ tokens: 64 * 256, flopsPerToken: flops.forward(teacher) + flops.forward(student), tolerance: 1e-2 },
        own: (turn) => own.evaluate(64 * (turn % 4), 64),
        peer: (turn) => peer.ask({ do: "evaluate", at_once: 8, ...batchOf(pair, 64 * (turn % 4), 64) }),
      },
    ]);
  },
  vocabulary: async (settings) => {
    const pair = await syntheticPair(settings.directory, vocabularyShape, { count: 8, length: 512 });
    await inTurns(settings, pair, (own, peer, { flops }) => [
      {
        title: "Vocabulary of 151,936, Router KD, 8 sequences of 512 an update",
        flopsPerToken: flops.routerKd,
        ...routerKd(own, peer, { updates: 1, batch: 8, atOnce: 2 }),
      },
    ]);
  },
  layer: async (settings) => {
    const pair = await syntheticPair(settings.directory, layerShape, { count: 8, length: 512 });
    const whole = { ...pair, student: pair.teacher };
    await inTurns(settings, whole, (own, peer, { teacher, flops }) => [
      {
        title: "Two layers shaped like Qwen3-30B-A3B's, forward",
        ...{ tokens: 4096, flopsPerToken: flops.layers(teacher), tolerance: 1e-3 },
        own: () => own.forward(8),
        peer: () => peer.ask({ do: "forward", ...batchOf(pair, 0, 8) }),
      },
      {
        title: "The same, forward and gradients of the routers",
        ...{ tokens: 4096, flopsPerToken: flops.layers(teacher) + flops.gradients(teacher), tolerance: 1e-2 },
        own: () => own.gradients(8),
        peer: () => peer.ask({ do: "gradients", ...batchOf(pair, 0, 8) }),
      },
    ]);
  },
};

type Flops = ReturnType<typeof flopsOf>;

async function inTurns(
  { python, rounds, experts, runtime, directory, print }: Settings,
  pair: Pair,
  comparisons: (own: OwnSide, peer: PeerProcess, work: Flops) => Comparison[],
): Promise<void> {
  const own = await OwnSide.open(pair, runtime, directory);
  const peer = new PeerProcess(python);
  try {
    const folder = (model: Pair["teacher"]) => model.checkpoint.directory;
    const student = pair.student === pair.teacher ? {} : { student: folder(pair.student) };
    const models = { teacher: folder(pair.teacher), ...student };
    await peer.ask({ do: "open", threads: runtime.threads, experts, ...models });
    // The better of both libraries is the machine's rate.
    const rate = async () => {
      const began = process.cpuUsage();
      const ours = await gemmRate(runtime, 3);
      const { user, system } = process.cpuUsage(began);
      const theirs = await peer.ask({ do: "gemm", repeats: 3 });
      return { wall: Math.max(ours, theirs.value), cpu: (3 * 2 * 2048 ** 3 * 1e6) / (user + system) };
    };
    for (const comparison of comparisons(own, peer, flopsOf(pair)))
      await compareInTurns(comparison, rounds, rate, print);
  } finally {
    peer.close();
    await own.close();
  }
}

function flopsOf({ teacher, student, sequences: { sequenceLength } }: Pair) {
  const flops = {
    routerKd: routerKdFlops(teacher.description, student.description, sequenceLength),
    forward: ({ description }: Pair["teacher"]) => forwardFlops(description, sequenceLength),
    layers: ({ description }: Pair["teacher"]) => layerFlops(description, sequenceLength),
    gradients: ({ description }: Pair["teacher"]) => routerGradientFlops(description, sequenceLength),
  };
  return { teacher, student, flops };
}

/** Turns of a few updates over the text again and again. */
function routerKd(
  own: OwnSide,
  peer: PeerProcess,
  { updates, batch, atOnce }: { updates: number; batch: number; atOnce: number },
): Omit<Comparison, "title" | "flopsPerToken"> {
  const { numSequences, sequenceLength } = own.pair.sequences;
  const firstOf = (turn: number) => (turn * updates * batch) % numSequences;
  return {
    tokens: updates * batch * sequenceLength,
    tolerance: 1e-2,
    own: (turn) => own.routerKd(firstOf(turn), updates, batch),
    peer: async (turn) => {
      const total = { seconds: 0, cpu: 0, value: 0 };
      for (let update = 0; update < updates; update++) {
        const one = await peer.ask({
          do: "kd",
          at_once: atOnce,
          ...batchOf(own.pair, firstOf(turn) + update * batch, batch),
        });
        total.seconds += one.seconds;
        total.cpu += one.cpu;
        total.value = one.value;
      }
      return total;
    },
  };
}

function batchOf({ ids, sequences }: Pair, start: number, count: number): PeerBatch {
  return { ids, length: sequences.sequenceLength, start, count };
}
