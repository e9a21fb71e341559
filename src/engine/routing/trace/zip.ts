import { inflateRawSync } from "node:zlib";
import { quote } from "../../checkpoint/quote";
import { invalidTrace } from "./traceCounts";

/** What an archive may unpack to, so that a small file cannot fill the memory. */
const maxUnpackedBytes = 2 ** 31;
const endSignature = 0x06054b50;
const entrySignature = 0x02014b50;
/** The archive's end record, with the longest comment. */
const maxEndBytes = 22 + 65_535;
/** An archive of more files says so in a ZIP64 record, which is not read. */
const maxEntries = 65_534;

/**
 * Files of a ZIP archive by name, stored or deflated, from the archive's central directory; those that `wanted` refuses are
 * not unpacked. NumPy and PyTorch write such archives.
 *
 * @param what for messages, such as "NumPy archive"
 * @throws RerouteError trace/invalid
 */
export function readZip(
  bytes: Uint8Array,
  name: string,
  what: string,
  wanted: (entryName: string) => boolean,
): Map<string, Uint8Array> {
  const fail = (problem: string): never => {
    throw invalidTrace(`${quote(name)} cannot be read as a ${what}: ${problem}`);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = findEnd(view);
  if (end === null) return fail("it has no end record; is it cut?");
  const count = view.getUint16(end + 10, true);
  if (count > maxEntries) return fail(`it holds ${count} files or more, the limit is ${maxEntries}`);
  const files = new Map<string, Uint8Array>();
  let at = view.getUint32(end + 16, true);
  let unpacked = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > end || view.getUint32(at, true) !== entrySignature)
      return fail(`entry ${i} is not where it should be`);
    const [method, packedBytes, bytesOut] = [
      view.getUint16(at + 10, true),
      view.getUint32(at + 20, true),
      view.getUint32(at + 24, true),
    ];
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((o) => view.getUint16(at + o, true)) as [
      number,
      number,
      number,
    ];
    const local = view.getUint32(at + 42, true);
    const entryName = Buffer.from(bytes.subarray(at + 46, at + 46 + nameLength)).toString("utf8");
    at += 46 + nameLength + extraLength + commentLength;
    if (local + 30 > bytes.length) return fail(`${quote(entryName)} lies outside the file`);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    unpacked += bytesOut;
    if (start + packedBytes > bytes.length || unpacked > maxUnpackedBytes) {
      return fail(`${quote(entryName)} lies outside the file or unpacks to too much`);
    }
    if (!wanted(entryName)) continue;
    const packed = bytes.subarray(start, start + packedBytes);
    files.set(entryName, unpack(packed, method, bytesOut) ?? fail(`${quote(entryName)} cannot be unpacked`));
  }
  return files;
}

function findEnd(view: DataView): number | null {
  const lowest = Math.max(0, view.byteLength - maxEndBytes);
  for (let at = view.byteLength - 22; at >= lowest; at--) if (view.getUint32(at, true) === endSignature) return at;
  return null;
}

function unpack(packed: Uint8Array, method: number, bytesOut: number): Uint8Array | null {
  if (method === 0) return packed.length === bytesOut ? packed : null;
  if (method !== 8) return null;
  try {
    const data = inflateRawSync(packed, { maxOutputLength: Math.max(1, bytesOut) });
    return data.length === bytesOut ? data : null;
  } catch {
    return null;
  }
}
