import { throwIfCancelled, RerouteError } from "../../protocol/errors";
import { dtypeBits, elementCount } from "../tensor/dtype";
import { decodeFloats, decodeFloatsInto } from "../tensor/floatCodec";
import type { TensorEntry } from "./checkpoint";
import { quote } from "./quote";
import { withShardFile } from "./shardFile";
import { readInto } from "./smallFile";

/** Elements of a tensor in stored (row-major) order. */
export interface ElementRange {
  /** First element; 0 by default. */
  offset?: number;
  /** Number of elements; to the end by default. */
  count?: number;
}

/** Bytes decoded at a time, so that a narrow tensor is not in memory twice. */
const chunkBytes = 8 * 2 ** 20;

/**
 * Stored bytes of a tensor, or of `range.byteLength` bytes from its byte `range.byteOffset` on.
 *
 * @throws RerouteError checkpoint/truncated, /changed, /not-found; arguments/invalid for a range outside the tensor
 */
export async function readTensorBytes(
  entry: TensorEntry,
  range?: { byteOffset?: number; byteLength?: number },
): Promise<Uint8Array> {
  const byteOffset = range?.byteOffset ?? 0;
  const byteLength = range?.byteLength ?? entry.byteLength - byteOffset;
  checkRange(entry, byteOffset, byteLength, entry.byteLength, "bytes");
  return withShardFile(entry.shard, (read) => read(entry.byteOffset + byteOffset, byteLength));
}

/**
 * A tensor, or `range.count` of its elements from `range.offset` on, as float32. 64-bit values are rounded; F8 and F4
 * codes become the numbers they stand for, without any block scale.
 *
 * @throws RerouteError checkpoint/truncated, /changed, /not-found; arguments/invalid for a range outside the tensor
 */
export async function readFloat32(entry: TensorEntry, range?: ElementRange): Promise<Float32Array> {
  const { byteOffset, count, bits } = bytesOfRange(entry, range);
  const values = new Float32Array(count);
  await withShardFile(entry.shard, async (read, file) => {
    const position = entry.byteOffset + byteOffset;
    if (entry.dtype === "F32") {
      return readInto(file, entry.shard.realPath, position, new Uint8Array(values.buffer));
    }
    const elementsPerChunk = (chunkBytes * 8) / bits;
    for (let done = 0; done < count; done += elementsPerChunk) {
      const length = (Math.min(elementsPerChunk, count - done) * bits) / 8;
      values.set(decodeFloats(await read(position + (done * bits) / 8, length), entry.dtype), done);
    }
  });
  return values;
}

/** `count` elements of a tensor from `offset` on. */
export interface RowOfTensor {
  entry: TensorEntry;
  offset: number;
}

/**
 * As many elements of several tensors, as float32, one tensor a row of `out` [rows, count]. Each shard is opened once.
 *
 * @throws RerouteError as readFloat32
 */
export async function readFloat32Rows(rows: readonly RowOfTensor[], count: number, out: Float32Array): Promise<void> {
  for (const shard of new Set(rows.map(({ entry }) => entry.shard))) {
    await withShardFile(shard, async (_, file) => {
      let bytes = new Uint8Array(0);
      for (const [row, { entry, offset }] of rows.entries()) {
        if (entry.shard !== shard) continue;
        const { byteOffset, bits } = bytesOfRange(entry, { offset, count });
        if (bytes.byteLength !== (count * bits) / 8) bytes = new Uint8Array((count * bits) / 8);
        await readInto(file, shard.realPath, entry.byteOffset + byteOffset, bytes);
        decodeFloatsInto(bytes, entry.dtype, out.subarray(row * count, (row + 1) * count));
      }
    });
  }
}

function bytesOfRange(entry: TensorEntry, range: ElementRange | undefined) {
  const elements = elementCount(entry.shape);
  const offset = range?.offset ?? 0;
  const count = range?.count ?? elements - offset;
  checkRange(entry, offset, count, elements, "elements");
  const bits = dtypeBits[entry.dtype];
  if ((offset * bits) % 8 !== 0 || (count * bits) % 8 !== 0) {
    throw new RerouteError(
      "arguments/invalid",
      `elements ${offset} to ${offset + count} of tensor ${quote(entry.name)} (${entry.dtype}) begin or end inside a byte`,
    );
  }
  return { byteOffset: (offset * bits) / 8, count, bits };
}

function checkRange(entry: TensorEntry, offset: number, count: number, limit: number, unit: string): void {
  if (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(count) &&
    offset >= 0 &&
    count >= 0 &&
    offset + count <= limit
  ) {
    return;
  }
  throw new RerouteError(
    "arguments/invalid",
    `${unit} ${offset} to ${offset + count} of tensor ${quote(entry.name)} were asked for, it has ${limit}`,
  );
}

/** A multiple of every element size; with the decoded values all that streaming keeps in memory. */
const streamedBytes = 4 * 2 ** 20;

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
  const buffer = new Uint8Array(Math.min(streamedBytes, entry.byteLength));
  await withShardFile(entry.shard, async (_read, file) => {
    for (let done = 0; done < entry.byteLength; done += buffer.byteLength) {
      throwIfCancelled(signal);
      const chunk = buffer.subarray(0, Math.min(buffer.byteLength, entry.byteLength - done));
      await readInto(file, entry.shard.realPath, entry.byteOffset + done, chunk);
      onChunk(chunk, (done * 8) / dtypeBits[entry.dtype]);
    }
  });
}
