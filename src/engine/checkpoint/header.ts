import { RerouteError } from "../../protocol/errors";
import { byteLengthOf, isDType, type DType } from "../tensor/dtype";
import { JsonReader } from "./jsonReader";
import { maxDims, maxHeaderBytes, maxMetadataEntries, maxTensors } from "./limits";
import { quote } from "./quote";

/** What a safetensors file says about itself. */
export interface SafetensorsHeader {
  metadata: Record<string, string>;
  /** By offset; a tensor without elements comes before the one that starts at the same byte. */
  tensors: HeaderTensor[];
}

export interface HeaderTensor {
  name: string;
  dtype: DType;
  shape: number[];
  /** First byte, counted from the file's start. */
  byteOffset: number;
  byteLength: number;
}

/** Bytes of the length field that a file begins with. */
export const lengthFieldBytes = 8;

/**
 * Parses the beginning of a safetensors file: the length field and the whole JSON header, checked against the file's
 * size. The rules are those of the reference implementation (huggingface/safetensors, `Metadata::validate`): tensors
 * cover the data without holes, overlaps or bytes left over. Stricter than it in one point: a repeated key is refused,
 * since readers disagree about which value counts.
 *
 * @throws RerouteError checkpoint/malformed, /truncated, /limit, /unsupported-dtype; each message names the file, and
 *   the tensor where there is one
 */
export function parseSafetensorsHeader(bytes: Uint8Array, fileSize: number, fileName: string): SafetensorsHeader {
  const headerBytes = readHeaderLength(bytes, fileSize, fileName);
  const dataStart = lengthFieldBytes + headerBytes;
  const json = bytes.subarray(lengthFieldBytes, dataStart);
  if (json.length < headerBytes) {
    throw new RerouteError(
      "checkpoint/truncated",
      `header of ${quote(fileName)} ends after ${json.length} bytes, its length field says ${headerBytes}; download the file again`,
    );
  }
  const { metadata, tensors } = readHeaderJson(json, fileName);
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(tensors, fileSize - dataStart, fileName);
  for (const tensor of tensors) tensor.byteOffset += dataStart;
  return { metadata, tensors };
}

/**
 * Length of the JSON header, from the first eight bytes of a file of `fileSize` bytes.
 *
 * @throws RerouteError checkpoint/truncated, /limit
 */
export function readHeaderLength(bytes: Uint8Array, fileSize: number, fileName: string): number {
  if (bytes.length < lengthFieldBytes) {
    throw new RerouteError(
      "checkpoint/truncated",
      `${quote(fileName)} has ${fileSize} bytes, a safetensors file begins with an ${lengthFieldBytes}-byte length; download the file again`,
    );
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) {
    throw new RerouteError(
      "checkpoint/limit",
      `header of ${quote(fileName)} claims ${length.toString()} bytes, the limit is ${maxHeaderBytes}; is this a safetensors file?`,
    );
  }
  if (lengthFieldBytes + Number(length) > fileSize) {
    throw new RerouteError(
      "checkpoint/truncated",
      `header of ${quote(fileName)} claims ${length.toString()} bytes, the file has only ${fileSize}; download the file again`,
    );
  }
  return Number(length);
}

/** Offsets are still relative to the data's start here. */
function readHeaderJson(json: Uint8Array, fileName: string): SafetensorsHeader {
  const reader = new JsonReader(json, (problem) => malformed(fileName, problem));
  if (json[0] !== 0x7b) malformed(fileName, "it does not begin with {");
  let metadata: Record<string, string> | undefined;
  const tensors: HeaderTensor[] = [];
  const names = new Set<string>();
  reader.readObject((key) => {
    if (key === "__metadata__") {
      if (metadata) malformed(fileName, "__metadata__ occurs twice");
      metadata = readMetadata(reader, fileName);
      return;
    }
    if (names.has(key)) malformed(fileName, `tensor ${quote(key)} occurs twice`);
    names.add(key);
    if (names.size > maxTensors) {
      throw new RerouteError(
        "checkpoint/limit",
        `header of ${quote(fileName)} lists more than ${maxTensors} tensors, which is the limit`,
      );
    }
    tensors.push(readTensor(reader, key, fileName));
  });
  reader.readEnd();
  return { metadata: metadata ?? noMetadata(), tensors };
}

function readMetadata(reader: JsonReader, fileName: string): Record<string, string> {
  const metadata = noMetadata();
  let entries = 0;
  if (reader.peek() !== 0x7b) malformed(fileName, "__metadata__ is not an object");
  reader.readObject((key) => {
    if (reader.peek() !== 0x22) malformed(fileName, `__metadata__ ${quote(key)} is not a string`);
    if (Object.hasOwn(metadata, key)) malformed(fileName, `__metadata__ ${quote(key)} occurs twice`);
    if (++entries > maxMetadataEntries) {
      throw new RerouteError(
        "checkpoint/limit",
        `__metadata__ of ${quote(fileName)} has more than ${maxMetadataEntries} entries, which is the limit`,
      );
    }
    metadata[key] = reader.readString();
  });
  return metadata;
}

/** Without a prototype: keys are untrusted, and "__proto__" is one of them at times. */
function noMetadata(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

function readTensor(reader: JsonReader, name: string, fileName: string): HeaderTensor {
  const where = () => `tensor ${quote(name)}`;
  let dtypeName: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  if (reader.peek() !== 0x7b) malformed(fileName, `${where()} is not an object`);
  reader.readObject((key) => {
    switch (key) {
      case "dtype":
        if (dtypeName !== undefined) malformed(fileName, `${where()} has two dtypes`);
        if (reader.peek() !== 0x22) malformed(fileName, `${where()} has a dtype that is not a string`);
        dtypeName = reader.readString();
        break;
      case "shape":
        if (shape) malformed(fileName, `${where()} has two shapes`);
        shape = readCounts(reader, () => `a dimension of ${where()}`, maxDims, fileName);
        break;
      case "data_offsets":
        if (offsets) malformed(fileName, `${where()} has data_offsets twice`);
        offsets = readCounts(reader, () => `an offset of ${where()}`, 2, fileName);
        break;
      default:
        // The reference implementation ignores other keys, so that the format can grow.
        reader.skipValue();
    }
  });
  if (dtypeName === undefined) return malformed(fileName, `${where()} has no dtype`);
  if (!shape) return malformed(fileName, `${where()} has no shape`);
  const [begin, end] = offsets ?? [];
  if (begin === undefined || end === undefined) return malformed(fileName, `${where()} needs two data_offsets`);
  if (end < begin) malformed(fileName, `${where()} has data_offsets [${begin}, ${end}], which end before they begin`);
  if (!isDType(dtypeName)) {
    throw new RerouteError(
      "checkpoint/unsupported-dtype",
      `${where()} in ${quote(fileName)} is stored as ${quote(dtypeName)}, which is not a dtype that Reroute reads`,
    );
  }
  checkSize({ name, dtype: dtypeName, shape, byteOffset: begin, byteLength: end - begin }, fileName);
  return { name, dtype: dtypeName, shape, byteOffset: begin, byteLength: end - begin };
}

function readCounts(reader: JsonReader, what: () => string, limit: number, fileName: string): number[] {
  const counts: number[] = [];
  if (reader.peek() !== 0x5b) malformed(fileName, `where ${what()} belongs is no array`);
  reader.readArray(() => {
    if (counts.length === limit) malformed(fileName, `more than ${limit} numbers where ${what()} belongs`);
    counts.push(reader.readCount(what));
  });
  return counts;
}

function checkSize({ name, dtype, shape, byteLength }: HeaderTensor, fileName: string): void {
  const expected = byteLengthOf(dtype, shape);
  // Beyond 2^53 products are no longer exact, and no file is that large; a zero further on must not hide it.
  let product = 1;
  const tooLarge = shape.some((size) => (product *= size) > Number.MAX_SAFE_INTEGER);
  if (expected === byteLength && !tooLarge) return;
  const needs = tooLarge ? "is larger than any file" : `needs ${expected}`;
  malformed(fileName, `tensor ${quote(name)} takes ${byteLength} bytes, ${dtype} [${shape.join(", ")}] ${needs}`);
}

function checkLayout(tensors: HeaderTensor[], dataBytes: number, fileName: string): void {
  let end = 0;
  for (const { name, byteOffset, byteLength } of tensors) {
    if (byteOffset < end) {
      malformed(
        fileName,
        `tensor ${quote(name)} begins at data byte ${byteOffset}, inside the one before it (to ${end})`,
      );
    }
    if (byteOffset > end) {
      malformed(fileName, `bytes ${end} to ${byteOffset} before tensor ${quote(name)} belong to no tensor`);
    }
    end = byteOffset + byteLength;
    if (end > dataBytes) {
      throw new RerouteError(
        "checkpoint/truncated",
        `tensor ${quote(name)} in ${quote(fileName)} ends at data byte ${end}, the file has ${dataBytes}; download the file again`,
      );
    }
  }
  if (end !== dataBytes) malformed(fileName, `${dataBytes - end} bytes after the last tensor belong to no tensor`);
}

function malformed(fileName: string, problem: string): never {
  throw new RerouteError(
    "checkpoint/malformed",
    `cannot read the header of ${quote(fileName)}: ${problem}; download or write the file again`,
  );
}
