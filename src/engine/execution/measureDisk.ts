import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { FileHiddenStates } from "./hiddenStates";

/** Speeds of the disks that a run uses, bytes a second. */
export interface DiskSpeeds {
  /** Of reading weights that the page cache does not hold. */
  readBytesPerSecond: number;
  /** Of writing to the scratch folder, flushed. */
  writeBytesPerSecond: number;
  /** Of handing bytes to the system's page cache, from where the disk takes them while the program goes on. */
  bufferBytesPerSecond: number;
}

/** A common SSD, and a common memory. */
export const fallbackDiskBytesPerSecond = 400e6;
export const fallbackBufferBytesPerSecond = 2e9;

/** As much as the checkpoint has, up to this. */
const probeBytes = 64 * 2 ** 20;
const stretchBytes = 4 * 2 ** 20;

/** A disk that cannot be read or written is found by who needs it: here it is taken for a common one. */
export function measureDisk(checkpoint: Checkpoint, scratchDirectory: string): DiskSpeeds {
  const readBytesPerSecond = measureReading(checkpoint);
  const written = orNull(() => timeWriting(checkpoint, scratchDirectory));
  return {
    readBytesPerSecond,
    writeBytesPerSecond: measured(() => written!.flushed) ?? fallbackDiskBytesPerSecond,
    bufferBytesPerSecond: measured(() => written!.buffered) ?? fallbackBufferBytesPerSecond,
  };
}

/** Bytes a second of reading weights that the page cache does not hold. */
export function measureReading(checkpoint: Checkpoint): number {
  return measured(() => timeReading(checkpoint)) ?? fallbackDiskBytesPerSecond;
}

interface Stretch {
  bytes: number;
  seconds: number;
  /** Whether it came from the disk; null where the system does not tell. */
  isCold: boolean | null;
}

/**
 * Reads stretches all over the checkpoint. What lies in the page cache now will have left it when a pass through a
 * checkpoint that does not fit there comes by again, so only what comes from the disk counts.
 */
function timeReading({ shards }: Checkpoint): number {
  const total = totalBytes(shards);
  const length = Math.min(stretchBytes, total);
  const count = Math.max(1, Math.min(probeBytes / stretchBytes, Math.floor(total / length)));
  const buffer = new Uint8Array(length);
  const stretches = Array.from({ length: count }, (_, i): Stretch => {
    const before = bytesFromDisk();
    const started = performance.now();
    const bytes = readAt(shards, Math.floor((i * total) / count), buffer);
    const seconds = (performance.now() - started) / 1e3;
    const after = bytesFromDisk();
    return { bytes, seconds, isCold: before === null || after === null ? null : after - before > bytes / 2 };
  });
  return diskRate(stretches);
}

/** Bytes a second of the stretches that came from the disk, or of the slower half where none is known to. */
export function diskRate(stretches: readonly Stretch[]): number {
  const cold = stretches.filter(({ isCold }) => isCold === true);
  const slower = [...stretches]
    .sort((a, b) => a.bytes / a.seconds - b.bytes / b.seconds)
    .slice(0, Math.max(1, Math.floor(stretches.length / 2)));
  const counted = cold.length > 0 ? cold : slower;
  const sum = (of: (stretch: Stretch) => number) => counted.reduce((all, stretch) => all + of(stretch), 0);
  return sum(({ bytes }) => bytes) / sum(({ seconds }) => seconds);
}

/** Bytes that this process has read from disks so far; null where the system does not tell. */
function bytesFromDisk(): number | null {
  try {
    const match = /^read_bytes: (\d+)/m.exec(readFileSync("/proc/self/io", "utf8"));
    return match && Number(match[1]);
  } catch {
    return null;
  }
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

function timeWriting({ shards }: Checkpoint, directory: string): { flushed: number; buffered: number } {
  const part = new Float32Array(2 ** 18).fill(1);
  const parts = Math.ceil(Math.min(probeBytes, totalBytes(shards)) / part.byteLength);
  const states = new FileHiddenStates(parts, part.length, directory);
  const rate = (started: number) => (parts * part.byteLength * 1e3) / (performance.now() - started);
  try {
    const started = performance.now();
    for (let row = 0; row < parts; row++) states.write(row, part);
    const buffered = rate(started);
    states.flush();
    return { flushed: rate(started), buffered };
  } finally {
    states.close();
  }
}

/** A speed that can be one; null otherwise. */
function measured(measure: () => number): number | null {
  const speed = orNull(measure);
  return speed !== null && Number.isFinite(speed) && speed > 0 ? speed : null;
}

function orNull<T>(measure: () => T): T | null {
  try {
    return measure();
  } catch {
    return null;
  }
}

function totalBytes(shards: Checkpoint["shards"]): number {
  return shards.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
