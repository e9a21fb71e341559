import { malformedRow } from "./row";

export interface Line {
  text: string;
  /** 1 for the first line. */
  number: number;
}

/** A line, so a document of a .jsonl file, may have this many bytes; a longer one is not text in lines at all. */
export const maxLineBytes = 64 * 2 ** 20;

const lineFeed = 0x0a;
const byteOrderMark = [0xef, 0xbb, 0xbf] as const;

/**
 * Lines of a UTF-8 file, given its bytes, without their line ends (LF or CRLF), streamed. A byte order mark at the start is dropped; a last
 * line without line end counts; of empty lines in a row only the first is given.
 *
 * @throws `data/malformed` for invalid UTF-8 (line and byte) or a line beyond {@link maxLineBytes}; file system errors as they are
 */
export async function* readLines(chunks: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Line> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let lineStart = 0;
  let number = 1;
  let wasEmpty = false;

  const finish = (end: Uint8Array): Line => {
    const bytes = pending.length === 0 ? end : Buffer.concat([...pending, end]);
    const line = { text: decodeLine(bytes, path, number, lineStart), number };
    pending = [];
    pendingBytes = 0;
    lineStart += bytes.length + 1;
    number++;
    return line;
  };

  for await (const chunk of chunks) {
    let from = 0;
    for (let to = chunk.indexOf(lineFeed); to >= 0; to = chunk.indexOf(lineFeed, from)) {
      const isEmpty = to === from && pending.length === 0;
      if (isEmpty && wasEmpty) {
        // Of empty lines in a row the first is given: a file of nothing else must not take minutes.
        lineStart++;
        number++;
      } else yield finish(chunk.subarray(from, to));
      wasEmpty = isEmpty;
      from = to + 1;
    }
    if (from === chunk.length) continue;
    pending.push(chunk.subarray(from));
    pendingBytes += chunk.length - from;
    if (pendingBytes > maxLineBytes) {
      throw malformedRow(
        `line ${number} of ${path} has more than ${maxLineBytes} bytes, the limit. Break the text into shorter documents`,
      );
    }
  }
  if (pendingBytes > 0) yield finish(new Uint8Array(0));
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decodeLine(bytes: Uint8Array, path: string, number: number, lineStart: number): string {
  const hasMark = number === 1 && byteOrderMark.every((byte, i) => bytes[i] === byte);
  const from = hasMark ? byteOrderMark.length : 0;
  const to = bytes.length > from && bytes[bytes.length - 1] === 0x0d ? bytes.length - 1 : bytes.length;
  return decodeUtf8(
    bytes.subarray(from, to),
    (offset) => `line ${number} of ${path}, byte ${lineStart + from + offset}`,
  );
}

/**
 * Text of UTF-8 bytes.
 *
 * @param place names the place of an invalid byte, given its offset, for the message
 * @throws `data/malformed`
 */
export function decodeUtf8(bytes: Uint8Array, place: (offset: number) => string): string {
  try {
    return utf8.decode(bytes);
  } catch (cause) {
    const offset = firstInvalidByte(bytes);
    const byte = (bytes[offset] ?? 0).toString(16).padStart(2, "0");
    throw malformedRow(
      `${place(offset)} (0x${byte}), is not valid UTF-8. Convert the file to UTF-8, or use the file the text came from`,
      cause,
    );
  }
}

/** Offset at which decoding first fails: everything before it round-trips, a replacement character written as such included. */
function firstInvalidByte(bytes: Uint8Array): number {
  const tolerant = Buffer.from(Buffer.from(bytes).toString("utf8"), "utf8");
  let offset = 0;
  while (offset < bytes.length && bytes[offset] === tolerant[offset]) offset++;
  return Math.min(offset, bytes.length - 1);
}
