import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseMemorySize } from "../../src/engine/run/machine";
import type { StageId } from "../../src/protocol/run";
import { makeCheckpoint } from "./makeCheckpoint";
import { inspectInProcesses, manyTensors } from "./manyTensors";
import { dropFromCache, measuredRun, type MeasuredRun, type RunSizes } from "./measuredRun";
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

/** 12 GB of Qwen3-30B-A3B's shape in ten layers, under 4 GiB; 4096 tokens, two updates. */
const largeCase: ScaleCase = {
  label: "12 GB, Qwen3-MoE-shaped",
  shape: { numLayers: 10 },
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
export async function largeBench(print: Print): Promise<void> {
  buildCommandLine();
  await withRun(largeCase, { isCold: true, isLimited: true }, (measured, bytes) => {
    printRun(largeCase, measured, bytes, print);
  });
}

/**
 * Peak memory and time against layers, experts and tokens, with their ratios. Time is the processor's in all stages, without
 * start and probe: on one thread it is what the run takes where nothing else runs.
 */
export async function seriesBench(names: readonly SeriesName[], print: Print): Promise<void> {
  buildCommandLine();
  for (const name of names) {
    const points: { size: number; peak: number; seconds: number }[] = [];
    for (const one of seriesCases[name]!) {
      await withRun(one, { isCold: false, isLimited: false }, (measured, bytes) => {
        printRun(one, measured, bytes, print);
        const seconds = [...measured.own]
          .filter(([stage]) => stage !== "between stages")
          .reduce((sum, [, own]) => sum + own, 0);
        points.push({ size: one.size, peak: Math.max(...measured.peaks.values()), seconds });
      });
    }
    printSeries(name, points, print);
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

function printSeries(name: string, points: { size: number; peak: number; seconds: number }[], print: Print): void {
  const lowest = Math.min(...points.map(({ peak }) => peak));
  const fit = leastSquares(points.map(({ size, seconds }) => [size, seconds]));
  print(`against ${name}:`);
  for (const { size, peak, seconds } of points) {
    const line = fit(size);
    print(
      `  ${String(size).padStart(6)}  peak ${mebibytes(peak).padStart(8)} (${(peak / lowest).toFixed(2)} x the lowest)` +
        `  ${seconds.toFixed(1).padStart(7)} s of processor time (${percent(seconds / line - 1)} off the line)`,
    );
  }
  const of = (size: number) => points.find((point) => point.size === size);
  const [six, twentyFour] = [of(6), of(24)];
  if (name === "layers" && six && twentyFour)
    print(`  24 layers take ${(twentyFour.peak / six.peak).toFixed(2)} x the memory of 6`);
}

/** The line through points that is closest in relative terms: long runs must not hide what short ones do. */
function leastSquares(points: readonly (readonly [number, number])[]): (x: number) => number {
  let [w, wx, wxx, wy, wxy] = [0, 0, 0, 0, 0];
  for (const [x, y] of points) {
    const weight = 1 / y ** 2;
    w += weight;
    wx += weight * x;
    wxx += weight * x * x;
    wy += weight * y;
    wxy += weight * x * y;
  }
  const slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
  const offset = (wy - slope * wx) / w;
  return (x) => offset + slope * x;
}

async function withRun(
  one: ScaleCase,
  { isCold, isLimited }: { isCold: boolean; isLimited: boolean },
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
    if (isCold) dropFromCache(teacher);
    use(await measuredRun(folder, one, isLimited ? { limitBytes: parseMemorySize(one.memory) } : {}), bytes);
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

function percent(share: number): string {
  return `${share < 0 ? "" : "+"}${(share * 100).toFixed(0)} %`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
