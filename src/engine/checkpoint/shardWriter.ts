import { open } from "node:fs/promises";
import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import { writeAll, writeError } from "./atomicFile";
import { formatSafetensorsHeader } from "./headerFormat";
import { quote } from "./quote";
import type { SourceFiles } from "./sourceFiles";
import type { ByteSource, TensorSource } from "./tensorSource";

/** All that is in memory of what is copied: large enough for the disk's full rate, small beside any budget. */
const bufferBytes = 8 * 2 ** 20;

/**
 * Writes one shard under `filePath`, flushed to disk. Copies go through one buffer of 8 MiB, so many small tensors cost
 * few writes and a large one is never in memory.
 */
export async function writeShard(
  filePath: string,
  tensors: readonly TensorSource[],
  metadata: Record<string, string>,
  sources: SourceFiles,
  options: { signal?: AbortSignal | undefined; onBytes: (bytes: number) => void },
): Promise<void> {
  const file = await open(filePath, "wx").catch((error: unknown) => {
    throw writeError(error, filePath);
  });
  try {
    const buffer = Buffer.allocUnsafeSlow(bufferBytes);
    let used = 0;
    const flush = async (bytes: Uint8Array) => {
      throwIfCancelled(options.signal);
      await writeAll(file, bytes).catch((error: unknown) => {
        throw writeError(error, filePath);
      });
      options.onBytes(bytes.byteLength);
    };
    const flushBuffer = async () => {
      await flush(buffer.subarray(0, used));
      used = 0;
    };
    await flush(formatSafetensorsHeader(tensors, metadata));
    for (const part of joinAdjacent(tensors)) {
      if (part.kind === "bytes") {
        const bytes = await part.data();
        if (bytes.byteLength !== part.byteLength) {
          throw new RerouteError(
            "internal",
            `a part for ${quote(filePath)} has ${bytes.byteLength} bytes, ${part.byteLength} were announced`,
          );
        }
        if (used + bytes.byteLength > bufferBytes) await flushBuffer();
        if (bytes.byteLength > bufferBytes) await flush(bytes);
        else {
          buffer.set(bytes, used);
          used += bytes.byteLength;
        }
        continue;
      }
      for (let done = 0; done < part.byteLength;) {
        const length = Math.min(part.byteLength - done, bufferBytes - used);
        const position = part.entry.byteOffset + part.byteOffset + done;
        await sources.readInto(part.entry.shard, position, buffer.subarray(used, used + length));
        used += length;
        done += length;
        if (used === bufferBytes) await flushBuffer();
      }
    }
    await flushBuffer();
    await file.sync();
  } catch (error) {
    throw writeError(error, filePath);
  } finally {
    await file.close();
  }
}

/** The parts of all tensors, with copies that follow one another in their shard read as one. */
function* joinAdjacent(tensors: readonly TensorSource[]): Generator<ByteSource> {
  let last: ByteSource | undefined;
  for (const part of tensors.flatMap((tensor) => tensor.parts)) {
    if (
      last?.kind === "copy" &&
      part.kind === "copy" &&
      last.entry.shard === part.entry.shard &&
      last.entry.byteOffset + last.byteOffset + last.byteLength === part.entry.byteOffset + part.byteOffset
    ) {
      last = { ...last, byteLength: last.byteLength + part.byteLength };
      continue;
    }
    if (last) yield last;
    last = part;
  }
  if (last) yield last;
}
