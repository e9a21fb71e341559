import { open, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import { partialName, syncFolder, writeAll, writeError } from "../checkpoint/atomicFile";
import { quote } from "../checkpoint/quote";

/** A metadata value, with the type it is written in. */
export type GgufField =
  | { type: "uint32" | "float32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "strings"; value: readonly string[] }
  | { type: "float32s" | "int32s"; value: readonly number[] };

/** A tensor to be written. */
export interface GgufSource {
  name: string;
  /** Number of its type. */
  typeId: number;
  /** Row-major. */
  shape: readonly number[];
  byteLength: number;
  /** Made when their turn comes; memory may be used again at the next step. */
  parts: () => AsyncIterable<Uint8Array>;
}

export const ggufAlignment = 32;
const typeIds = { uint32: 4, float32: 6, bool: 7, string: 8, array: 9, int32: 5 } as const;

/**
 * Writes a GGUF file of version 3 (docs/gguf.md of ggml-org/ggml), one part of one tensor in memory at a time. The name stands
 * for a whole file at every moment, and nothing that is there is replaced. `onBytes` counts those of tensors.
 *
 * @throws RerouteError output/not-empty, output/write-failed, cancelled
 */
export async function writeGguf(
  filePath: string,
  fields: ReadonlyMap<string, GgufField>,
  tensors: readonly GgufSource[],
  { signal, onBytes }: { signal?: AbortSignal | undefined; onBytes: (bytes: number) => void },
): Promise<number> {
  await refuseExistingFile(filePath);
  const temporary = path.join(path.dirname(filePath), partialName(path.basename(filePath)));
  const fail = (error: unknown): never => {
    throw writeError(error, filePath);
  };
  const file = await open(temporary, "w").catch(fail);
  let written = 0;
  const put = async (bytes: Uint8Array) => {
    throwIfCancelled(signal);
    await writeAll(file, bytes);
    written += bytes.byteLength;
  };
  try {
    const header = formatHeader(fields, tensors);
    await put(header);
    await put(new Uint8Array(padding(header.byteLength)));
    for (const { name, byteLength, parts } of tensors) {
      const from = written;
      for await (const part of parts()) {
        await put(part);
        onBytes(part.byteLength);
      }
      if (written - from !== byteLength) {
        throw new RerouteError("internal", `${quote(name)} has ${written - from} bytes, ${byteLength} were announced`);
      }
      await put(new Uint8Array(padding(byteLength)));
    }
    await file.sync();
    await file.close();
    await refuseExistingFile(filePath);
    await rename(temporary, filePath);
    await syncFolder(path.dirname(filePath));
    return written;
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    return fail(error);
  }
}

/** @throws RerouteError output/not-empty */
export async function refuseExistingFile(filePath: string): Promise<void> {
  const exists = await stat(filePath).then(
    () => true,
    () => false,
  );
  if (exists) throw new RerouteError("output/not-empty", `${quote(filePath)} exists; choose another name`);
}

function formatHeader(fields: ReadonlyMap<string, GgufField>, tensors: readonly GgufSource[]): Buffer {
  let offset = 0;
  const described = tensors.map(({ name, typeId, shape, byteLength }) => {
    const place = offset;
    offset += byteLength + padding(byteLength);
    return Buffer.concat([
      text(name),
      u32(shape.length),
      ...[...shape].reverse().map((size) => u64(size)),
      u32(typeId),
      u64(place),
    ]);
  });
  return Buffer.concat([
    Buffer.from("GGUF"),
    ...[u32(3), u64(tensors.length), u64(fields.size)],
    ...[...fields].map(([key, field]) => Buffer.concat([text(key), fieldBytes(field)])),
    ...described,
  ]);
}

function fieldBytes(field: GgufField): Buffer {
  switch (field.type) {
    case "uint32":
      return Buffer.concat([u32(typeIds.uint32), u32(field.value)]);
    case "float32":
      return Buffer.concat([u32(typeIds.float32), f32(field.value)]);
    case "bool":
      return Buffer.concat([u32(typeIds.bool), Buffer.from([field.value ? 1 : 0])]);
    case "string":
      return Buffer.concat([u32(typeIds.string), text(field.value)]);
    case "strings":
      return Buffer.concat([
        u32(typeIds.array),
        u32(typeIds.string),
        u64(field.value.length),
        ...field.value.map(text),
      ]);
    case "float32s":
      return arrayBytes(typeIds.float32, Float32Array.from(field.value));
    case "int32s":
      return arrayBytes(typeIds.int32, Int32Array.from(field.value));
  }
}

function arrayBytes(type: number, values: Float32Array | Int32Array): Buffer {
  return Buffer.concat([
    ...[u32(typeIds.array), u32(type), u64(values.length)],
    Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  ]);
}

function padding(length: number): number {
  return (ggufAlignment - (length % ggufAlignment)) % ggufAlignment;
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
