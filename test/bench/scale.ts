import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { runFile, type Preflight, type RunFile, type StageId } from "../../src/protocol/run";
import { makeCheckpoint } from "./makeCheckpoint";
import type { SyntheticShape } from "./syntheticFamilies";

export interface ScaleCase {
  label: string;
  shape: Partial<SyntheticShape>;
  sequences: number;
  sequenceLength: number;
  /** Sequences an update. */
  batch: number;
  memory: string;
  threads: number;
}

const small = {
  ...{ hiddenSize: 256, numExperts: 32, numExpertsPerToken: 4, moeIntermediateSize: 128, vocabSize: 2048 },
  ...{ numHeads: 4, numKeyValueHeads: 2, headDim: 64, numLayers: 8 },
};
const smallCase = { sequences: 32, sequenceLength: 256, batch: 16, memory: "400MiB", threads: 1 };

/** Peak memory and time against layers, experts and tokens, on models of a small width. */
export const flatnessCases: ScaleCase[] = [
  ...[4, 8, 16, 32].map((numLayers) => ({
    ...smallCase,
    label: `${numLayers} layers`,
    shape: { ...small, numLayers },
  })),
  ...[16, 64, 256, 512].map((numExperts) => ({
    ...smallCase,
    label: `${numExperts} experts`,
    shape: { ...small, numLayers: 4, numExperts, moeIntermediateSize: 64 },
    memory: "600MiB",
  })),
  ...[16, 64, 256].map((sequences) => ({
    ...smallCase,
    label: `${sequences * smallCase.sequenceLength} tokens`,
    shape: { ...small, numLayers: 4 },
    sequences,
  })),
];

/** 12 GB of Qwen3-30B-A3B's shape in ten layers, under 4 GiB; 4096 tokens, two updates. */
export const largeCase: ScaleCase = {
  label: "12 GB, Qwen3-MoE-shaped",
  shape: { numLayers: 10 },
  sequences: 8,
  sequenceLength: 512,
  batch: 4,
  memory: "4GiB",
  threads: os.availableParallelism(),
};

/**
 * Works a whole recipe off (profile, prune to 62.5 %, calibrate, evaluate) on a synthetic checkpoint with the command line
 * as it ships, sampling its anonymous memory every 20 ms from outside, and prints what the pre-flight had promised.
 */
export async function scaleBench(cases: readonly ScaleCase[], print: (line: string) => void): Promise<void> {
  spawnSync(process.execPath, ["esbuild.mjs"], { stdio: "inherit" });
  for (const { label, shape, memory, ...sizes } of cases) {
    const folder = await mkdtemp(path.join(os.tmpdir(), "reroute-scale-"));
    try {
      const teacher = path.join(folder, "teacher");
      const tokenizerFrom = path.resolve("media/sample/checkpoint");
      const { bytes } = await makeCheckpoint({ directory: teacher, family: "qwen3_moe", shape, tokenizerFrom });
      const { peaks, read, run, seconds } = await measuredRun(folder, { memory, ...sizes });
      const tokens = sizes.sequences * sizes.sequenceLength;
      print(`${label}: ${gigabytes(bytes)}, ${tokens} tokens, budget ${memory}, ${seconds.toFixed(1)} s in all`);
      for (const stage of run.stages.filter(({ id }) => peaks.has(id))) {
        const { seconds: predictedSeconds = NaN, peakMemoryBytes: predicted = NaN } = predictionOf(
          run.preflight,
          stage.id,
        );
        print(
          `  ${stage.id.padEnd(10)} ${stage.seconds.toFixed(1).padStart(7)} s (predicted ${predictedSeconds.toFixed(1)})` +
            `  peak ${mebibytes(peaks.get(stage.id)!)} (predicted ${mebibytes(predicted)})  read ${gigabytes(read.get(stage.id) ?? 0)}`,
        );
      }
      print(`  largest    ${mebibytes(Math.max(...peaks.values()))}`);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
}

async function measuredRun(folder: string, sizes: Omit<ScaleCase, "label" | "shape">) {
  const { sequences, sequenceLength, batch, memory, threads } = sizes;
  const work = path.join(folder, "work");
  await mkdir(work);
  const text = (name: string) => path.resolve("media/sample", name);
  const recipe = {
    schemaVersion: 1,
    teacher: "../teacher",
    data: {
      ...{ calibration: text("calibration.jsonl"), evaluation: text("evaluation.jsonl") },
      ...{ sequences, sequenceLength, evaluationSequences: Math.min(sequences, 4) },
    },
    compress: { method: "reap", keep: 0.625 },
    calibrate: { batch, heldOut: 0 },
    output: "out",
    ...{ memory, threads },
  };
  const file = path.join(work, "scale.reroute.json");
  await writeFile(file, JSON.stringify(recipe));
  const runDirectory = path.join(work, "run");
  const child = spawn(process.execPath, ["dist/cli.js", "run", file, "--run", runDirectory], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => (errors = (errors + part).slice(-2000)));
  const peaks = new Map<string, number>();
  const read = new Map<string, number>();
  let readBefore = 0;
  const timer = setInterval(() => {
    const stage = runningStage(runDirectory);
    const resident = field(`/proc/${child.pid}/status`, "RssAnon") * 1024;
    peaks.set(stage, Math.max(peaks.get(stage) ?? 0, resident));
    const readNow = field(`/proc/${child.pid}/io`, "read_bytes");
    read.set(stage, (read.get(stage) ?? 0) + Math.max(0, readNow - readBefore));
    readBefore = Math.max(readBefore, readNow);
  }, 20);
  const started = performance.now();
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`the run ended with ${String(code)}: ${errors}`);
  const run = runFile.parse(JSON.parse(readFileSync(path.join(runDirectory, "run.json"), "utf8")));
  return { peaks, read, run, seconds: (performance.now() - started) / 1e3 };
}

function runningStage(runDirectory: string): StageId | "between stages" {
  try {
    const { stages } = JSON.parse(readFileSync(path.join(runDirectory, "run.json"), "utf8")) as RunFile;
    return stages.find(({ state }) => state === "running")?.id ?? "between stages";
  } catch {
    return "between stages";
  }
}

/** A number of a file of /proc; 0 where there is none, as on systems other than Linux. */
function field(file: string, name: string): number {
  if (!existsSync(file)) return 0;
  return Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(readFileSync(file, "utf8"))?.[1] ?? 0);
}

function predictionOf(preflight: Preflight | null, id: StageId): { seconds?: number; peakMemoryBytes?: number } {
  return preflight?.stages.find(({ stage }) => stage === id) ?? {};
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
