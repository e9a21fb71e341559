import { RerouteError } from "../../protocol/errors";
import { lengthFieldBytes, type HeaderTensor, type SafetensorsHeader } from "./headerFormat";
import { malformedHeader, readHeaderJson } from "./headerReader";
import { maxHeaderBytes } from "./limits";
import { quote } from "./quote";

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

function checkLayout(tensors: HeaderTensor[], dataBytes: number, fileName: string): void {
  let end = 0;
  for (const { name, byteOffset, byteLength } of tensors) {
    if (byteOffset < end) {
      malformedHeader(
        fileName,
        `tensor ${quote(name)} begins at data byte ${byteOffset}, inside the one before it (to ${end})`,
      );
    }
    if (byteOffset > end) {
      malformedHeader(fileName, `bytes ${end} to ${byteOffset} before tensor ${quote(name)} belong to no tensor`);
    }
    end = byteOffset + byteLength;
    if (end > dataBytes) {
      throw new RerouteError(
        "checkpoint/truncated",
        `tensor ${quote(name)} in ${quote(fileName)} ends at data byte ${end}, the file has ${dataBytes}; download the file again`,
      );
    }
  }
  if (end !== dataBytes)
    malformedHeader(fileName, `${dataBytes - end} bytes after the last tensor belong to no tensor`);
}
