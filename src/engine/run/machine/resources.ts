import { Worker } from "node:worker_threads";
import type { MetricsLine } from "../../../protocol/metrics";
import { residentBytes, storageBytes } from "./machine";

const sampleMs = 1000;
/** Samples between two lines of metrics.jsonl. */
const samplesPerLine = 10;

export interface ResourceSampler {
  /** Ends the sampling; gives the largest sample. */
  stop: () => number;
}

/**
 * Samples memory while a stage works, without mapped files; every ten seconds a line goes to `onLine`, with the tokens a
 * second that `tokensPerSecond` knows. Graph runs block this thread, so a second one looks, too, where the system tells
 * how much memory a process has.
 */
export function sampleResources(
  stage: string,
  onLine: (line: MetricsLine) => void,
  tokensPerSecond: () => number | null,
): ResourceSampler {
  const watcher = watchFromThread();
  let peak = residentBytes();
  let samples = 0;
  const sample = (): void => {
    const memoryBytes = residentBytes();
    peak = Math.max(peak, memoryBytes, watcher.largest());
    samples += 1;
    if (samples % samplesPerLine !== 0) return;
    const { read, written } = storageBytes();
    const at = new Date().toISOString();
    const bytes = { memoryBytes, bytesRead: read, bytesWritten: written };
    onLine({ kind: "resources", stage, at, ...bytes, tokensPerSecond: tokensPerSecond() });
  };
  const timer = setInterval(sample, sampleMs);
  timer.unref();
  return {
    stop: () => {
      clearInterval(timer);
      watcher.stop();
      return Math.max(peak, watcher.largest(), residentBytes());
    },
  };
}

/** Plain JavaScript in a string, so that no bundle needs a file of its own for it. */
const watcherCode = `
const { readFileSync } = require("node:fs");
const { workerData } = require("node:worker_threads");
const largest = new Float64Array(workerData);
setInterval(() => {
  const match = /^RssAnon:\\s*(\\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
  if (match) largest[0] = Math.max(largest[0], Number(match[1]) * 1024);
}, 50);
`;

function watchFromThread(): { largest: () => number; stop: () => void } {
  if (process.platform !== "linux") return { largest: () => 0, stop: () => undefined };
  const shared = new SharedArrayBuffer(8);
  const largest = new Float64Array(shared);
  const limits = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 };
  const worker = new Worker(watcherCode, { eval: true, workerData: shared, resourceLimits: limits });
  worker.unref();
  // Watching is no work that a run may fail for.
  worker.on("error", () => undefined);
  return { largest: () => largest[0]!, stop: () => void worker.terminate() };
}
