import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { CompressionMethod } from "../../src/protocol/methods";
import type { RuntimeOptions } from "../../src/engine/runtime/session";
import { makeCheckpoint } from "./makeCheckpoint";
import type { MethodJob, MethodTime } from "./methodWork";

/** Layers of Qwen3-30B-A3B, for the extrapolation. */
const modelLayers = 48;
/** No method may need more than this for one layer. */
const mostMemoryBytes = 8 * 2 ** 30;
const experts = 128;

interface Row {
  label: string;
  method: CompressionMethod;
  options?: Record<string, string | number | boolean>;
  /** Experts of the measured layer, where 128 of them would take many minutes; work grows in proportion to them. */
  measuredExperts?: number;
  /** Optimiser steps measured, and the default's, which the time is scaled to. */
  steps?: { measured: number; wanted: number };
}

const rows: Row[] = [
  { label: "reap", method: "reap" },
  { label: "frequency", method: "frequency" },
  { label: "ean", method: "ean" },
  { label: "aimer", method: "aimer" },
  { label: "cfes", method: "cfes" },
  { label: "naee (greedy)", method: "naee" },
  { label: "easy-ep", method: "easy-ep" },
  { label: "mone", method: "mone" },
  { label: "svd", method: "svd", measuredExperts: 16 },
  { label: "svd-llm", method: "svd-llm", measuredExperts: 16 },
  { label: "d2-moe", method: "d2-moe", measuredExperts: 16 },
  { label: "td-moe", method: "td-moe", measuredExperts: 8 },
  { label: "mobe", method: "mobe", measuredExperts: 16, steps: { measured: 4, wanted: 1000 } },
  { label: "hc-smoe zipit", method: "hc-smoe", measuredExperts: 32 },
  { label: "hc-smoe average", method: "hc-smoe", measuredExperts: 32, options: { merge: "average" } },
  { label: "m-smoe", method: "m-smoe" },
  { label: "m-smoe weights", method: "m-smoe", measuredExperts: 32, options: { alignment: "weights" } },
  { label: "m-smoe activations", method: "m-smoe", measuredExperts: 32, options: { alignment: "activations" } },
  { label: "ream", method: "ream", measuredExperts: 32 },
  { label: "magnitude", method: "magnitude", measuredExperts: 16 },
  { label: "wanda", method: "wanda", measuredExperts: 16 },
  { label: "neurons", method: "neurons", measuredExperts: 16 },
  { label: "neurons heapr", method: "neurons", measuredExperts: 16, options: { score: "heapr" } },
  { label: "sparsegpt", method: "sparsegpt", measuredExperts: 8 },
  { label: "moe-pruner", method: "moe-pruner", measuredExperts: 16 },
  { label: "ablation", method: "ablation", measuredExperts: 8 },
  { label: "ablation local", method: "ablation", measuredExperts: 16, options: { effect: "local" } },
  { label: "rtn", method: "rtn", measuredExperts: 16 },
  { label: "gptq", method: "gptq", measuredExperts: 8 },
  { label: "awq", method: "awq", measuredExperts: 8 },
  { label: "awq gate and up", method: "awq", measuredExperts: 8, options: { gateUp: true } },
  { label: "fp8", method: "fp8", measuredExperts: 16 },
  { label: "mxfp4", method: "mxfp4", measuredExperts: 16 },
  { label: "mergemoe", method: "m-smoe", measuredExperts: 32, options: { merge: "least-squares" } },
];

/** Calibration text of every method: 8 sequences of 512 tokens. */
const text = { sequences: 8, sequenceLength: 512 };

/**
 * Every compression method on one Qwen3-30B-shaped MoE layer of random bf16 weights, keep 62.5 %: seconds from opening to
 * finished weights (profile included where the method needs one), largest anonymous memory sampled every 20 ms from
 * outside, and both times 48 layers. Each method runs in a process of its own.
 */
export async function methodsBench(
  runtime: RuntimeOptions,
  only: string | undefined,
  print: (line: string) => void,
): Promise<void> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "reroute-methods-"));
  try {
    const chosen = rows.filter(({ label }) => only === undefined || only.split(",").includes(label));
    for (const numExperts of new Set(chosen.map((row) => row.measuredExperts ?? experts))) {
      const shape = { numLayers: 1, vocabSize: 1024, numExperts };
      await makeCheckpoint({ directory: path.join(directory, `${numExperts}`), family: "qwen3_moe", shape });
    }
    print(`  ${text.sequences * text.sequenceLength} calibration tokens, ${runtime.threads} threads`);
    for (const row of chosen) print(`  ${await measured(row, directory, runtime)}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function measured(row: Row, directory: string, runtime: RuntimeOptions): Promise<string> {
  const { label, method, options = {}, measuredExperts = experts, steps } = row;
  const run = (count: number | null): Promise<MethodTime & { peak: number }> =>
    inProcess({
      ...text,
      runtime,
      method,
      checkpoint: path.join(directory, `${measuredExperts}`),
      stateDirectory: path.join(directory, "state"),
      options: count === null ? options : { ...options, steps: count },
    });
  const result = await run(steps ? steps.measured : null);
  let seconds = result.seconds;
  const notes: string[] = [];
  if (steps) {
    const start = await run(0);
    const perStep = (seconds - start.seconds) / steps.measured;
    seconds = start.seconds + perStep * steps.wanted;
    notes.push(`${steps.measured} steps measured, ${perStep.toFixed(2)} s a step, times ${steps.wanted}`);
  }
  const scale = experts / measuredExperts;
  if (scale !== 1) notes.push(`${measuredExperts} experts measured, times ${scale}`);
  const layer = seconds * scale;
  const ratio = (result.passSeconds + result.predictedSeconds) / result.seconds;
  notes.push(
    `pre-flight: ${ratio.toFixed(2)} of the time measured, ${gibibytes(result.predictedBytes)} beside the pass`,
  );
  const memory = `${gibibytes(result.peak)}${result.peak > mostMemoryBytes ? " ABOVE 8 GiB" : ""}`;
  const gemmSeconds = (layer * result.gemmRate) / 1e12;
  return (
    `${label.padEnd(19)} ${duration(layer).padStart(10)} a layer (${gemmSeconds.toFixed(2)} TFLOP of GEMM)  ` +
    `${memory.padStart(9)}  ${modelLayers} layers ${duration(layer * modelLayers)}  [${notes.join("; ")}]`
  );
}

async function inProcess(job: MethodJob): Promise<MethodTime & { peak: number }> {
  await rm(job.stateDirectory, { recursive: true, force: true });
  const child = spawn(process.execPath, [process.argv[1]!, "method", JSON.stringify(job)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (output += part));
  let peak = 0;
  const timer = setInterval(() => (peak = Math.max(peak, anonymousBytes(child.pid!))), 20);
  const code = await new Promise((resolve) => child.on("close", resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`${job.method} ended with ${String(code)}`);
  return { ...(JSON.parse(output) as MethodTime), peak };
}

/** 0 where the system does not tell. */
function anonymousBytes(pid: number): number {
  const file = `/proc/${pid}/status`;
  if (!existsSync(file)) return 0;
  return Number(/^RssAnon:\s*(\d+)/m.exec(readFileSync(file, "utf8"))?.[1] ?? 0) * 1024;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

function duration(seconds: number): string {
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return seconds < 6000 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
