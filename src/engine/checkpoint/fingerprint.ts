import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { throwIfCancelled } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "./checkpoint";
import { canonicalJson } from "./contentKey";
import { streamTensor } from "./read";
import { readError } from "./smallFile";
import { SourceFiles } from "./sourceFiles";

/**
 * The smallest tensors are hashed whole until this many bytes are reached. That covers norms, routers and scales of every
 * published MoE model (DeepSeek-V3: 370 MB), which is where a calibrated checkpoint differs from its student.
 */
const wholeBytes = 512 * 2 ** 20;
/** Of the larger ones, this many bytes from each end, ... */
const sampleBytes = 4096;
/** ... of at most this many tensors, evenly spaced in the order of names. */
const maxSampled = 4096;

/**
 * A short name for a checkpoint's content, independent of its sharding and quick for any size: SHA-256, as hex, over
 *
 * 1. config.json with sorted keys and without white space;
 * 2. name, dtype and shape of every tensor, by name;
 * 3. the bytes of tensors taken by rising size, then name, as long as their sum stays within 512 MiB;
 * 4. of the others the first and the last 4 KiB: all of them up to 4096 tensors, else 4096 evenly spaced by name.
 *
 * It tells apart checkpoints that differ by training or compression. It is no proof that every weight is equal where
 * `isSampled` says so: `tensorDigests` is, at a rate of about 1.2 GB a second and core.
 *
 * @throws RerouteError checkpoint/truncated, /changed, /not-found, cancelled
 */
export async function fingerprintCheckpoint(checkpoint: Checkpoint, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  hash.update(`reroute fingerprint 1\n${canonicalJson(checkpoint.config)}\n`);
  const byName = [...checkpoint.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const { name, dtype, shape } of byName) hash.update(`${JSON.stringify([name, dtype, shape])}\n`);

  const whole = wholeTensors(byName);
  const large = byName.filter((entry) => !whole.has(entry));
  const step = Math.max(1, large.length / maxSampled);
  const sampled = large.filter((_, i) => Math.floor(i / step) !== Math.floor((i - 1) / step));
  const chosen = [...whole].concat(sampled).sort((a, b) => (a.name < b.name ? -1 : 1));

  const sources = new SourceFiles();
  try {
    for (const entry of chosen) {
      throwIfCancelled(signal);
      if (whole.has(entry)) await hashRange(hash, sources, entry, 0, entry.byteLength);
      else {
        const length = Math.min(sampleBytes, entry.byteLength);
        await hashRange(hash, sources, entry, 0, length);
        await hashRange(hash, sources, entry, entry.byteLength - length, length);
      }
    }
  } finally {
    await sources.close();
  }
  return hash.digest("hex");
}

/** Whether bytes of a checkpoint are left out of its fingerprint, because there are too many of them. */
export function isSampled({ tensors }: Checkpoint): boolean {
  let bytes = 0;
  for (const { byteLength } of tensors.values()) bytes += byteLength;
  return bytes > wholeBytes;
}

/** SHA-256 of the bytes of every tensor, or of those named: what proves that tensors are or are not the same. */
export async function tensorDigests(
  checkpoint: Checkpoint,
  names: Iterable<string> = checkpoint.tensors.keys(),
  signal?: AbortSignal,
): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (const name of names) {
    const hash = createHash("sha256");
    await streamTensor(checkpoint.tensors.get(name)!, (bytes) => hash.update(bytes), signal);
    digests.set(name, hash.digest("hex"));
  }
  return digests;
}

/** SHA-256 of a file, as hex. @throws RerouteError checkpoint/not-found */
export async function hashFile(filePath: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(filePath, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  } catch (error) {
    throw readError(error, filePath);
  }
  return hash.digest("hex");
}

function wholeTensors(byName: TensorEntry[]): Set<TensorEntry> {
  const whole = new Set<TensorEntry>();
  let bytes = 0;
  for (const entry of [...byName].sort((a, b) => a.byteLength - b.byteLength)) {
    bytes += entry.byteLength;
    if (bytes > wholeBytes) break;
    whole.add(entry);
  }
  return whole;
}

async function hashRange(
  hash: Hash,
  sources: SourceFiles,
  entry: TensorEntry,
  from: number,
  length: number,
): Promise<void> {
  const bytes = new Uint8Array(Math.min(length, 2 ** 20));
  for (let done = 0; done < length; done += bytes.byteLength) {
    const part = bytes.subarray(0, Math.min(bytes.byteLength, length - done));
    await sources.readInto(entry.shard, entry.byteOffset + from + done, part);
    hash.update(part);
  }
}
