import path from "node:path";
import { realpath } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import type { Shard, TensorEntry } from "./checkpoint";
import { parseSafetensorsHeader, readHeaderLength } from "./header";
import { lengthFieldBytes, type HeaderTensor } from "./headerFormat";
import { quote } from "./quote";
import { readError, openRegularFile, readRange, refusePointerFile } from "./smallFile";

/**
 * Opens one safetensors file: reads its header, nothing else.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /truncated, /limit, /unsupported-dtype, /lfs-pointer
 */
export async function openShard(filePath: string): Promise<{ shard: Shard; tensors: TensorEntry[] }> {
  const name = path.basename(filePath);
  const file = await openRegularFile(filePath);
  try {
    const realPath = await realpath(filePath);
    const { size, mtimeMs } = await file.stat();
    if (size < 2 ** 20) await refusePointerFile(file, filePath);
    const start = await readRange(file, filePath, 0, Math.min(lengthFieldBytes, size));
    const headerEnd = lengthFieldBytes + readHeaderLength(start, size, name);
    const { metadata, tensors } = parseSafetensorsHeader(await readRange(file, filePath, 0, headerEnd), size, name);
    const shard: Shard = { name, realPath, sizeBytes: size, modifiedMs: mtimeMs, metadata };
    return { shard, tensors: tensors.map((tensor) => withShard(tensor, shard)) };
  } catch (error) {
    throw readError(error, filePath);
  } finally {
    await file.close();
  }
}

/** Written out: adding a property to an object that exists costs more, in time and in memory, than making another. */
function withShard({ name, dtype, shape, byteOffset, byteLength }: HeaderTensor, shard: Shard): TensorEntry {
  return { name, dtype, shape, shard, byteOffset, byteLength };
}

/**
 * Runs `work` with the shard's file open, and makes sure before and after that it is still the file whose header was read.
 *
 * @throws RerouteError checkpoint/changed when size or modification time differ from those at opening
 */
export async function withShardFile<T>(
  shard: Shard,
  work: (read: (position: number, length: number) => Promise<Uint8Array>, handle: ShardHandle) => Promise<T>,
): Promise<T> {
  const handle = await openRegularFile(shard.realPath);
  try {
    const check = async () => checkUnchanged(shard, await handle.stat());
    await check();
    const result = await work((position, length) => readRange(handle, shard.realPath, position, length), handle);
    await check();
    return result;
  } catch (error) {
    throw readError(error, shard.realPath);
  } finally {
    await handle.close();
  }
}

export type ShardHandle = Awaited<ReturnType<typeof openRegularFile>>;

export function checkUnchanged(shard: Shard, now: { size: number; mtimeMs: number }): void {
  if (now.size === shard.sizeBytes && now.mtimeMs === shard.modifiedMs) return;
  const found =
    now.size === shard.sizeBytes
      ? `was modified at ${new Date(now.mtimeMs).toISOString()}, after it was opened`
      : `has ${now.size} bytes, it had ${shard.sizeBytes} when it was opened`;
  throw new RerouteError(
    "checkpoint/changed",
    `${quote(shard.realPath)} ${found}; open the checkpoint again and start over`,
  );
}
