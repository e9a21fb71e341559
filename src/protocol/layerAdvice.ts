import type { Preflight } from "./run";

/** Why a run should be cut by layers, and into how many parts. */
export interface LayerAdvice {
  parts: number;
  /** Bytes that a worker holds to keep the whole checkpoint at hand, and those of the smallest worker. */
  neededBytes: number;
  memoryBytes: number;
  /** Bytes a second that each worker reads from storage without parts, since each of its tiles reads the checkpoint again. */
  readBytesPerSecond: number;
}

/** What a worker needs beside the weights, at most: activations, sums and the runtime. */
const mostBesideWeights = 8e9;

/** Storage that many machines share gives each of them this, bytes a second; a tile that reads more slowly does not wait for it. */
const sharedReadBytesPerSecond = 50e6;

/**
 * Whether passes over the text are better cut by layers: where no worker's memory holds the checkpoint beside what it computes
 * with, and reading it again for each tile is more than shared storage gives. With n workers in n parts or fewer, each reads its
 * layers once. Router KD is not meant: it trains the student, which is smaller.
 * @param workers that may work on the run
 * @param layerParts that the run has already
 * @returns null where one worker, or one part, is right
 */
export function layerAdvice(
  { stages, bytesBefore }: Pick<Preflight, "stages" | "bytesBefore">,
  workers: readonly { memoryBytes: number }[],
  layerParts = 1,
): LayerAdvice | null {
  if (workers.length < 2) return null;
  const memoryBytes = workers.reduce((least, worker) => Math.min(least, worker.memoryBytes), Infinity);
  // Where both are there, the profile is the first.
  const pass = stages.find(({ stage, spread }) => ["profile", "evaluate"].includes(stage) && spread?.[0]);
  if (pass === undefined) return null;
  const beside = Math.min(mostBesideWeights, pass.peakMemoryBytes);
  const neededBytes = bytesBefore + beside;
  const { seconds, parts: tiles } = pass.spread![0]!;
  const readBytesPerSecond = (bytesBefore * tiles) / Math.max(1e-9, seconds);
  if (neededBytes <= memoryBytes || readBytesPerSecond <= sharedReadBytesPerSecond) return null;
  const fitting = memoryBytes > beside ? Math.ceil(bytesBefore / (memoryBytes - beside)) : Infinity;
  const parts = Math.min(workers.length, Math.max(2, fitting));
  return parts <= layerParts ? null : { parts, neededBytes, memoryBytes, readBytesPerSecond };
}
