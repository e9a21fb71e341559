import { closeSync, openSync, readSync } from "node:fs";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { FileHiddenStates } from "./hiddenStates";

/** Speeds of the disks that a run uses, bytes a second. */
export interface DiskSpeeds {
  /** Of reading weights that the page cache does not hold. */
  readBytesPerSecond: number;
  /** Of writing to the scratch folder, flushed. */
  writeBytesPerSecond: number;
}

/** A common SSD. */
export const fallbackDiskBytesPerSecond = 400e6;

/** As much as the checkpoint has, up to this. */
const probeBytes = 64 * 2 ** 20;
const stretchBytes = 4 * 2 ** 20;

/** A disk that cannot be read or written is found by who needs it: here it is taken for a common one. */
export function measureDisk(checkpoint: Checkpoint, scratchDirectory: string): DiskSpeeds {
  return {
    readBytesPerSecond: orFallback(() => timeReading(checkpoint)),
    writeBytesPerSecond: orFallback(() => timeWriting(checkpoint, scratchDirectory)),
  };
}

/**
 * Reads stretches all over the checkpoint. The slower half counts: what lies in the page cache now will have left it when a
 * pass through a checkpoint that does not fit there comes by again.
 */
function timeReading({ shards }: Checkpoint): number {
  const total = totalBytes(shards);
  const length = Math.min(stretchBytes, total);
  const count = Math.max(1, Math.min(probeBytes / stretchBytes, Math.floor(total / length)));
  const buffer = new Uint8Array(length);
  const times = Array.from({ length: count }, (_, i) => {
    const started = performance.now();
    const bytes = readAt(shards, Math.floor((i * total) / count), buffer);
    return { bytes, seconds: (performance.now() - started) / 1e3 };
  });
  const slower = times
    .sort((a, b) => a.bytes / a.seconds - b.bytes / b.seconds)
    .slice(0, Math.max(1, Math.floor(count / 2)));
  const sum = (of: (time: (typeof times)[number]) => number) => slower.reduce((all, time) => all + of(time), 0);
  return sum(({ bytes }) => bytes) / sum(({ seconds }) => seconds);
}

/** Bytes read from a position of all shards laid end to end, as many as its shard still has and the buffer takes. */
function readAt(shards: Checkpoint["shards"], position: number, buffer: Uint8Array): number {
  let before = 0;
  const shard = shards.find(({ sizeBytes }) => position < (before += sizeBytes))!;
  const file = openSync(shard.realPath, "r");
  try {
    return readSync(file, buffer, 0, buffer.length, position - (before - shard.sizeBytes));
  } finally {
    closeSync(file);
  }
}

function timeWriting({ shards }: Checkpoint, directory: string): number {
  const part = new Float32Array(2 ** 18).fill(1);
  const parts = Math.ceil(Math.min(probeBytes, totalBytes(shards)) / part.byteLength);
  const states = new FileHiddenStates(parts, part.length, directory);
  try {
    const started = performance.now();
    for (let row = 0; row < parts; row++) states.write(row, part);
    states.flush();
    return (parts * part.byteLength * 1e3) / (performance.now() - started);
  } finally {
    states.close();
  }
}

function orFallback(measure: () => number): number {
  try {
    const speed = measure();
    return Number.isFinite(speed) && speed > 0 ? speed : fallbackDiskBytesPerSecond;
  } catch {
    return fallbackDiskBytesPerSecond;
  }
}

function totalBytes(shards: Checkpoint["shards"]): number {
  return shards.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
