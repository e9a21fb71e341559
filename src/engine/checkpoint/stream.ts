import { throwIfCancelled } from "../../protocol/errors";
import { dtypeBits } from "../tensor/dtype";
import type { TensorEntry } from "./checkpoint";
import { withShardFile } from "./shardFile";
import { readInto } from "./smallFile";

/** A multiple of every element size; with the decoded values all that streaming keeps in memory. */
const chunkBytes = 4 * 2 ** 20;

/**
 * Reads a tensor from its first byte to its last in chunks of whole elements. The memory of a chunk is used again for the
 * next one.
 *
 * @throws RerouteError checkpoint/truncated, /changed, /not-found, cancelled
 */
export async function streamTensor(
  entry: TensorEntry,
  onChunk: (bytes: Uint8Array, firstElement: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(chunkBytes, entry.byteLength));
  await withShardFile(entry.shard, async (_read, file) => {
    for (let done = 0; done < entry.byteLength; done += buffer.byteLength) {
      throwIfCancelled(signal);
      const chunk = buffer.subarray(0, Math.min(buffer.byteLength, entry.byteLength - done));
      await readInto(file, entry.shard.realPath, entry.byteOffset + done, chunk);
      onChunk(chunk, (done * 8) / dtypeBits[entry.dtype]);
    }
  });
}
