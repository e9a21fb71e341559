import type { MetricsLine } from "../../protocol/metrics";
import { residentBytes, storageBytes } from "./machine";

const sampleMs = 1000;
/** Samples between two lines of metrics.jsonl. */
const samplesPerLine = 10;

/**
 * Samples memory while a stage works, without mapped files; every ten seconds a line goes to `onLine`. `stop` gives the
 * largest sample. Graph runs block this thread, so a peak inside one run can be missed.
 */
export function sampleResources(stage: string, onLine: (line: MetricsLine) => void): { stop: () => number } {
  let peak = residentBytes();
  let samples = 0;
  const sample = (): void => {
    const memoryBytes = residentBytes();
    peak = Math.max(peak, memoryBytes);
    samples += 1;
    if (samples % samplesPerLine !== 0) return;
    const { read, written } = storageBytes();
    const at = new Date().toISOString();
    onLine({
      kind: "resources",
      stage,
      at,
      memoryBytes,
      bytesRead: read,
      bytesWritten: written,
      tokensPerSecond: null,
    });
  };
  const timer = setInterval(sample, sampleMs);
  timer.unref();
  return {
    stop: () => {
      clearInterval(timer);
      return Math.max(peak, residentBytes());
    },
  };
}
