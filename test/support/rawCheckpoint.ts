import { statSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Checkpoint, TensorEntry } from "../../src/engine/checkpoint/checkpoint";
import type { MemoryTensor } from "../../src/engine/checkpoint/safetensorsFile";
import { byteLengthOf } from "../../src/engine/tensor/dtype";
import { temporaryFolder } from "./temporaryFolder";

/** A checkpoint of raw tensors that begin right after `gap` bytes, so that they lie on odd addresses. */
export function rawCheckpoint(
  gap: number,
  tensors: Readonly<Record<string, MemoryTensor>>,
  config: Checkpoint["config"] = {},
): Checkpoint {
  const directory = temporaryFolder();
  const realPath = path.join(directory, "model.safetensors");
  const shard = { name: "model.safetensors", realPath, sizeBytes: 0, modifiedMs: 0, metadata: {} };
  const entries = new Map<string, TensorEntry>();
  const parts: Uint8Array[] = [new Uint8Array(gap)];
  let byteOffset = gap;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.byteLength !== byteLengthOf(dtype, shape)) throw new Error(`${name} has ${bytes.byteLength} bytes`);
    entries.set(name, { name, dtype, shape, shard, byteOffset, byteLength: bytes.byteLength });
    parts.push(bytes);
    byteOffset += bytes.byteLength;
  }
  writeFileSync(realPath, Buffer.concat(parts));
  const { size, mtimeMs } = statSync(realPath);
  Object.assign(shard, { sizeBytes: size, modifiedMs: mtimeMs });
  return { directory, config, shards: [shard], tensors: entries };
}
