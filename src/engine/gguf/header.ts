import path from "node:path";
import { realpath } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import type { Shard } from "../checkpoint/checkpoint";
import { maxTensors } from "../checkpoint/limits";
import { quote } from "../checkpoint/quote";
import { readError, openRegularFile, refusePointerFile } from "../checkpoint/smallFile";
import { elementCount } from "../tensor/dtype";
import { readGgufMetadata, type GgufValue } from "./metadata";
import { GgufReader } from "./reader";
import { ggufType } from "./types";

/** One GGUF file, opened by reading its header only. */
export interface GgufFile {
  version: number;
  /** Scalars, strings and short arrays; of long arrays only the length. */
  metadata: ReadonlyMap<string, GgufValue>;
  tensors: GgufTensor[];
  shard: Shard;
}

export interface GgufTensor {
  name: string;
  /** "Q4_K", "F32", ...; "type 99" for one that Reroute does not know. */
  type: string;
  /** Row-major, as PyTorch has it: GGUF lists the fastest axis first. */
  shape: number[];
  shard: Shard;
  /** First byte, counted from the file's start. */
  byteOffset: number;
  byteLength: number;
}

/** ggml has four axes. */
const maxGgufDims = 4;
const maxNameBytes = 1024;
const defaultAlignment = 32;
const maxAlignment = 2 ** 20;
const magic = 0x46554747;

/**
 * Reads the header of a GGUF file of version 2 or 3 (docs/gguf.md of ggml-org/ggml): magic, counts, metadata, tensor
 * descriptions. Tensors must lie inside the file, aligned and apart from each other, and have the size their type implies.
 *
 * Why not `@huggingface/gguf` (0.4.6 was read): it says where no tensor ends, so places, sizes and overlaps would still be
 * checked here, with the table of types; it decodes whole vocabularies, which nobody asks for; a broken file ends in a plain
 * Error; and it reads local files in pieces of 2 MB through a class for downloads.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /truncated, /limit, /lfs-pointer
 */
export async function openGguf(filePath: string): Promise<GgufFile> {
  const name = path.basename(filePath);
  const file = await openRegularFile(filePath);
  try {
    const { size, mtimeMs } = await file.stat();
    const shard: Shard = {
      name,
      realPath: await realpath(filePath),
      sizeBytes: size,
      modifiedMs: mtimeMs,
      metadata: Object.create(null) as Record<string, string>,
    };
    if (size < 2 ** 20) await refusePointerFile(file, filePath);
    const reader = new GgufReader(file, name, size);
    const version = await readVersion(reader, name);
    const numTensors = await reader.size("the number of tensors");
    if (numTensors > maxTensors) throw reader.limit("tensors", numTensors, maxTensors);
    const metadata = await readGgufMetadata(reader);
    const described = await readTensors(reader, numTensors);
    const alignment = alignmentOf(reader, metadata);
    const dataStart = Math.ceil(reader.position / alignment) * alignment;
    const tensors = placeTensors(reader, described, { shard, dataStart, alignment });
    return { version, metadata, tensors, shard };
  } catch (error) {
    throw readError(error, filePath);
  } finally {
    await file.close();
  }
}

/** Whether a path looks like a GGUF file. */
export function isGgufPath(filePath: string): boolean {
  return filePath.toLowerCase().endsWith(".gguf");
}

async function readVersion(reader: GgufReader, name: string): Promise<number> {
  if ((await reader.uint32()) !== magic) throw reader.malformed(`it does not begin with "GGUF"`);
  const version = await reader.uint32();
  if (version === 2 || version === 3) return version;
  // A file for big-endian machines has all its numbers reversed; its version shows it first.
  const problem = version >= 2 ** 16 ? "is written for big-endian machines" : `has version ${version}`;
  throw new RerouteError(
    "checkpoint/malformed",
    `${quote(name)} ${problem}, Reroute reads little-endian GGUF of version 2 and 3; convert it again with a current llama.cpp`,
  );
}

interface DescribedTensor {
  name: string;
  typeId: number;
  shape: number[];
  /** From the start of the data. */
  offset: number;
}

async function readTensors(reader: GgufReader, count: number): Promise<DescribedTensor[]> {
  const tensors: DescribedTensor[] = [];
  const names = new Set<string>();
  for (let i = 0; i < count; i++) {
    const name = await reader.string(`the name of tensor ${i}`);
    if (name.length > maxNameBytes) throw reader.limit(`bytes in the name of tensor ${i}`, name.length, maxNameBytes);
    if (names.has(name)) throw reader.malformed(`tensor ${quote(name)} occurs twice`);
    names.add(name);
    const dims = await reader.uint32();
    if (dims > maxGgufDims) throw reader.malformed(`tensor ${quote(name)} has ${dims} axes, ggml has ${maxGgufDims}`);
    const shape: number[] = [];
    for (let axis = 0; axis < dims; axis++) shape.unshift(await reader.size(`a dimension of tensor ${quote(name)}`));
    const typeId = await reader.uint32();
    let product = 1;
    // A zero further on must not hide a product that is beyond any file.
    if (shape.some((size) => (product *= size) > Number.MAX_SAFE_INTEGER / 8)) {
      throw reader.malformed(`tensor ${quote(name)} with [${shape.join(", ")}] is larger than any file`);
    }
    tensors.push({ name, typeId, shape, offset: await reader.size(`the offset of tensor ${quote(name)}`) });
  }
  return tensors;
}

function alignmentOf(reader: GgufReader, metadata: ReadonlyMap<string, GgufValue>): number {
  const found = metadata.get("general.alignment") ?? defaultAlignment;
  const isUsable = typeof found === "number" && Number.isInteger(found) && found >= 1 && found <= maxAlignment;
  if (isUsable) return found;
  throw reader.malformed(`general.alignment is ${JSON.stringify(found)}, expected 1 to ${maxAlignment}`);
}

function placeTensors(
  reader: GgufReader,
  described: DescribedTensor[],
  { shard, dataStart, alignment }: { shard: Shard; dataStart: number; alignment: number },
): GgufTensor[] {
  const ordered = [...described].sort((a, b) => a.offset - b.offset);
  return ordered.map((tensor, i) => {
    const { name, typeId, shape, offset } = tensor;
    if (offset % alignment !== 0) {
      throw reader.malformed(`tensor ${quote(name)} begins at ${offset}, no multiple of the alignment ${alignment}`);
    }
    const end = Math.min(ordered[i + 1]?.offset ?? Infinity, reader.fileSize - dataStart);
    const room = end - offset;
    // The size of a type that is newer than the table is what lies before the next tensor.
    const byteLength = ggufType(typeId) ? sizeOf(reader, tensor) : Math.max(0, room);
    if (byteLength > room) {
      const isLast = offset + byteLength > reader.fileSize - dataStart;
      if (!isLast) throw reader.malformed(`tensor ${quote(name)} reaches into ${quote(ordered[i + 1]!.name)}`);
      throw new RerouteError(
        "checkpoint/truncated",
        `tensor ${quote(name)} in ${quote(shard.name)} ends at byte ${dataStart + offset + byteLength}, the file has ${reader.fileSize}; download the file again`,
      );
    }
    const type = ggufType(typeId)?.name ?? `type ${typeId}`;
    return { name, type, shape, shard, byteOffset: dataStart + offset, byteLength };
  });
}

function sizeOf(reader: GgufReader, { name, typeId, shape }: DescribedTensor): number {
  const { name: type, blockElements, blockBytes } = ggufType(typeId)!;
  const rowLength = shape.at(-1) ?? 1;
  if (rowLength % blockElements !== 0) {
    throw reader.malformed(
      `tensor ${quote(name)} has rows of ${rowLength}, ${type} comes in blocks of ${blockElements}`,
    );
  }
  return (elementCount(shape) / blockElements) * blockBytes;
}
