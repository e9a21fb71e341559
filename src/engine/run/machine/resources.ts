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

/** Samplers of one process that may watch at a time; a place is given again when all others have been. */
const places = 64;

/** What the watching thread shares with this one. */
interface Watch {
  /** Largest sample of each place, bytes. */
  largest: Float64Array;
  /** 1 where a place is in use; behind the places, how many are. */
  inUse: Int32Array;
}

/**
 * Plain JavaScript in a string, so that no bundle needs a file of its own for it. Waits for nothing while nobody watches, and looks
 * less often while memory stands still, as that of a process that waits for others does.
 */
const watcherCode = `
const { openSync, readSync } = require("node:fs");
const { workerData } = require("node:worker_threads");
const { largest, inUse } = workerData;
const never = new Int32Array(new SharedArrayBuffer(4));
const [file, text] = [openSync("/proc/self/status", "r"), Buffer.alloc(8192)];
let [last, pause] = [0, 50];
for (;;) {
  Atomics.wait(inUse, largest.length, 0);
  const match = /^RssAnon:\\s*(\\d+) kB/m.exec(text.latin1Slice(0, readSync(file, text, 0, text.length, 0)));
  if (match) {
    const bytes = Number(match[1]) * 1024;
    pause = Math.abs(bytes - last) < 2 ** 20 ? Math.min(200, 2 * pause) : 50;
    last = bytes;
    for (let i = 0; i < largest.length; i++) {
      if (Atomics.load(inUse, i) === 1) largest[i] = Math.max(largest[i], bytes);
    }
  }
  Atomics.wait(never, 0, 0, pause);
}
`;

let watch: Watch | null = null;
let nextPlace = 0;

/** One thread for all stages of a process: starting one costs as much as a small stage. */
function startWatch(): Watch {
  const shared = {
    largest: new Float64Array(new SharedArrayBuffer(8 * places)),
    inUse: new Int32Array(new SharedArrayBuffer(4 * (places + 1))),
  };
  const limits = { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 };
  const worker = new Worker(watcherCode, { eval: true, workerData: shared, resourceLimits: limits });
  worker.unref();
  // Watching is no work that a run may fail for.
  worker.on("error", () => undefined);
  return shared;
}

function watchFromThread(): { largest: () => number; stop: () => void } {
  if (process.platform !== "linux") return { largest: () => 0, stop: () => undefined };
  watch ??= startWatch();
  const { largest, inUse } = watch;
  const place = nextPlace++ % places;
  largest[place] = 0;
  Atomics.store(inUse, place, 1);
  Atomics.add(inUse, places, 1);
  Atomics.notify(inUse, places);
  let isStopped = false;
  return {
    largest: () => largest[place]!,
    stop: () => {
      if (isStopped) return;
      isStopped = true;
      Atomics.store(inUse, place, 0);
      Atomics.sub(inUse, places, 1);
    },
  };
}
