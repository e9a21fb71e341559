import { openSync, closeSync, readSync } from "node:fs";
import { throwIfCancelled } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { allViewsIn } from "../execution/weightViews";
import type { LayerDescription } from "../model/description";

const bufferBytes = 8 * 2 ** 20;

/**
 * Reads a layer's weights once, so that they lie in the page cache: what is timed next then computes, and does not wait
 * for a disk whose time is counted elsewhere. A file that cannot be read is found by who needs it.
 *
 * @returns bytes read
 */
export function warmLayer({ tensors }: Checkpoint, layer: LayerDescription, signal?: AbortSignal): number {
  const names = new Set(allViewsIn(layer).map(({ tensor }) => tensor));
  const buffer = new Uint8Array(bufferBytes);
  let bytes = 0;
  for (const name of names) {
    throwIfCancelled(signal);
    const entry = tensors.get(name);
    if (entry !== undefined) bytes += readThrough(entry, buffer);
  }
  return bytes;
}

function readThrough({ shard, byteOffset, byteLength }: TensorEntry, buffer: Uint8Array): number {
  let done = 0;
  try {
    const file = openSync(shard.realPath, "r");
    try {
      while (done < byteLength) {
        const read = readSync(file, buffer, 0, Math.min(buffer.length, byteLength - done), byteOffset + done);
        if (read === 0) break;
        done += read;
      }
    } finally {
      closeSync(file);
    }
  } catch {
    return done;
  }
  return done;
}
