import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseMemorySize } from "../../src/engine/run/machine/machine";
import type { StageId } from "../../src/protocol/run";
import { makeCheckpoint } from "./makeCheckpoint";
import { inspectInProcesses, manyTensors } from "./manyTensors";
import { dropFromCache, measuredRun, type MeasuredRun, type RunSizes } from "./measuredRun";
import { describeSeries, mebibytes, percent, spreadOf, type SeriesPoint } from "./series";
import type { SyntheticShape } from "./syntheticTensors";

type Print = (line: string) => void;

export interface ScaleCase extends RunSizes {
  label: string;
  shape: Partial<SyntheticShape>;
}

const small = {
  ...{ hiddenSize: 256, numExperts: 32, numExpertsPerToken: 4, moeIntermediateSize: 128, vocabSize: 2048 },
  ...{ numHeads: 4, numKeyValueHeads: 2, headDim: 64, numLayers: 8 },
};
const smallCase = { sequences: 32, sequenceLength: 256, batch: 16, memory: "400MiB", threads: 1 };

/** One thing grows at a time, on models of a small width. */
const seriesCases: Record<string, (ScaleCase & { size: number })[]> = {
  layers: [4, 6, 8, 16, 24, 32].map((numLayers) => ({
    ...smallCase,
    size: numLayers,
    label: `${numLayers} layers`,
    shape: { ...small, numLayers },
  })),
  experts: [16, 64, 256, 512].map((numExperts) => ({
    ...smallCase,
    size: numExperts,
    label: `${numExperts} experts`,
    shape: { ...small, numLayers: 4, numExperts, moeIntermediateSize: 64 },
    memory: "600MiB",
  })),
  tokens: [16, 64, 256].map((sequences) => ({
    ...smallCase,
    size: sequences * smallCase.sequenceLength,
    label: `${sequences * smallCase.sequenceLength} tokens`,
    shape: { ...small, numLayers: 4 },
    sequences,
  })),
};
export type SeriesName = "layers" | "experts" | "tokens";
export const seriesNames = Object.keys(seriesCases) as SeriesName[];

/** 12 GB of Qwen3-30B-A3B's shape. */
export const largeLayers = 10;

/** Layers of Qwen3-30B-A3B's shape, under 4 GiB; 4096 tokens, two updates. */
const largeCase = {
  sequences: 8,
  sequenceLength: 512,
  batch: 4,
  memory: "4GiB",
  threads: os.availableParallelism(),
};

/**
 * A checkpoint three times as large as the budget: its files are out of the page cache at the start, and where the system
 * allows it, a control group of exactly the budget, page cache included, holds the run to it.
 */
export async function largeBench(layers: number, print: Print): Promise<void> {
  buildCommandLine();
  const one = { ...largeCase, label: `${layers} layers, Qwen3-MoE-shaped`, shape: { numLayers: layers } };
  await withRuns(one, { repeats: 1, isCold: true, isLimited: true }, (measured, bytes) => {
    printRun(one, measured, bytes, print);
  });
}

/**
 * Peak memory and time against layers, experts and tokens: medians of repeated runs with their ranges, and what is claimed
 * of them. Time is the processor's in all stages, without start and probe: on one thread it is what the run takes where
 * nothing else runs. One run's peak scatters by some 6 %, because it hangs on when garbage is collected.
 */
export async function seriesBench(names: readonly SeriesName[], repeats: number, print: Print): Promise<void> {
  buildCommandLine();
  for (const name of names) {
    const points: SeriesPoint[] = [];
    for (const one of seriesCases[name]!) {
      const runs: { peak: number; seconds: number }[] = [];
      await withRuns(one, { repeats, isCold: false, isLimited: false }, (measured, bytes) => {
        printRun(one, measured, bytes, print);
        const seconds = [...measured.own]
          .filter(([stage]) => stage !== "between stages")
          .reduce((sum, [, own]) => sum + own, 0);
        runs.push({ peak: Math.max(...measured.peaks.values()), seconds });
      });
      points.push({
        size: one.size,
        peak: spreadOf(runs.map(({ peak }) => peak)),
        seconds: spreadOf(runs.map(({ seconds }) => seconds)),
      });
    }
    for (const line of describeSeries(name, points)) print(line);
  }
}

/** Opening and inspecting 100,000 tensors in 40 shards, five times, each in a process of its own. */
export async function tensorsBench(print: Print): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "reroute-tensors-"));
  try {
    const tensors = manyTensors(folder);
    const runs = await inspectInProcesses(folder, folder, 5);
    const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;
    print(
      `${tensors} tensors in 40 shards: opened in ${median(runs.map(({ openMs }) => openMs)).toFixed(0)} ms, ` +
        `inspected after ${median(runs.map(({ totalMs }) => totalMs)).toFixed(0)} ms ` +
        `(${median(runs.map(({ cpuMs }) => cpuMs)).toFixed(0)} ms of processor time), ` +
        `peak ${mebibytes(median(runs.map(({ peakBytes }) => peakBytes)))}; medians of ${runs.length}`,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs on one checkpoint, each in a folder of its own. */
async function withRuns(
  one: ScaleCase,
  { repeats, isCold, isLimited }: { repeats: number; isCold: boolean; isLimited: boolean },
  use: (measured: MeasuredRun, bytes: number) => void,
): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "reroute-scale-"));
  try {
    const teacher = path.join(folder, "teacher");
    const tokenizerFrom = path.resolve("media/sample/checkpoint");
    const { bytes } = await makeCheckpoint({
      directory: teacher,
      family: "qwen3_moe",
      shape: one.shape,
      tokenizerFrom,
    });
    for (let repeat = 0; repeat < repeats; repeat++) {
      if (isCold) dropFromCache(teacher);
      use(await measuredRun(folder, one, isLimited ? { limitBytes: parseMemorySize(one.memory) } : {}), bytes);
      await rm(path.join(folder, "work"), { recursive: true, force: true });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function printRun(one: ScaleCase, measured: MeasuredRun, bytes: number, print: Print) {
  const { peaks, read, own, others, run, seconds, limitBytes } = measured;
  const tokens = one.sequences * one.sequenceLength;
  const limit = limitBytes === null ? "" : `, held to ${mebibytes(limitBytes)} by a control group`;
  print(
    `${one.label}: ${gigabytes(bytes)}, ${tokens} tokens, budget ${one.memory}${limit}, ${seconds.toFixed(1)} s in all`,
  );
  const promised = (id: StageId) => run.preflight?.stages.find(({ stage }) => stage === id);
  for (const stage of run.stages.filter(({ id }) => peaks.has(id))) {
    const { seconds: time = NaN, peakMemoryBytes: memory = NaN } = promised(stage.id) ?? {};
    const peak = peaks.get(stage.id)!;
    print(
      `  ${stage.id.padEnd(10)} ${stage.seconds.toFixed(1).padStart(7)} s (predicted ${time.toFixed(1)}, ${percent(time / stage.seconds - 1)})` +
        `  peak ${mebibytes(peak)} (predicted ${mebibytes(memory)}, ${percent(memory / peak - 1)})  read ${gigabytes(read.get(stage.id) ?? 0)}` +
        `  processor ${(own.get(stage.id) ?? 0).toFixed(1)} s, others ${percent((others.get(stage.id) ?? 0) / stage.seconds / os.availableParallelism())} of the machine`,
    );
  }
  const between = seconds - run.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  print(`  largest    ${mebibytes(Math.max(...peaks.values()))}; ${between.toFixed(1)} s of start, probe and hashing`);
}

function buildCommandLine(): void {
  if (spawnSync(process.execPath, ["esbuild.mjs"], { stdio: "inherit" }).status !== 0)
    throw new Error("the build failed");
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
