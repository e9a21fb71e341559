import { tableFromIPC } from "@uwdata/flechette";
import { readBytes } from "./bytes";
import { malformedRow, readingError, type Row, type RowSource } from "./row";

/** Record batches of `datasets` have a thousand rows. */
const maxMessageBytes = 2 ** 30;
const fileMagic = "ARROW1";

/**
 * `.arrow`: Arrow's IPC stream, as Hugging Face `datasets` writes it, or file, which holds the same messages between a magic and
 * a footer. One record batch after the other: memory holds one, with the schema and the dictionaries.
 * Source: "Serialization and Interprocess Communication" of the Arrow columnar format.
 */
export async function* readArrow({ path, compression, columns }: RowSource): AsyncGenerator<Row> {
  const before: Uint8Array[] = [];
  let number = 0;
  try {
    for await (const message of splitMessages(readBytes(path, compression), path)) {
      if (message.kind !== "batch") {
        before.push(message.bytes);
        continue;
      }
      if (before.length === 0)
        throw malformedRow(
          `${path} has no schema in front of its record batches; write it as a stream (pyarrow.ipc.new_stream)`,
        );
      const table = tableFromIPC([...before, message.bytes], { useBigInt: true });
      const wanted = table.names.filter((name) => columns.has(name));
      if (wanted.length === 0) {
        yield { value: Object.fromEntries(table.names.map((name) => [name, null])), where: `row 1 of ${path}` };
        return;
      }
      const selected = table.select(wanted);
      for (let i = 0; i < selected.numRows; i++) {
        yield { value: selected.get(i), where: `row ${++number} of ${path}` };
      }
    }
  } catch (cause) {
    throw readingError(path, "Arrow", cause);
  }
}

interface Message {
  kind: "batch" | "other";
  bytes: Uint8Array;
}

/** Each message is 0xffffffff, the length of its metadata, the metadata (a flatbuffer that says the body's length), the body. */
async function* splitMessages(chunks: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Message> {
  const input = chunkReader(chunks, path);
  let prefix = await input.take(8);
  if (prefix !== null && Buffer.from(prefix.subarray(0, 6)).toString("latin1") === fileMagic)
    prefix = await input.take(8);
  for (; prefix !== null; prefix = await input.take(8)) {
    const view = new DataView(prefix.buffer, prefix.byteOffset);
    if (view.getUint32(0, true) !== 0xffff_ffff)
      throw malformedRow(`${path} is no Arrow file, or of before Arrow 0.15`);
    const metadataBytes = view.getInt32(4, true);
    if (metadataBytes === 0) return;
    const metadata = await input.take(checked(metadataBytes, path));
    if (metadata === null) break;
    const { type, bodyBytes } = describeMessage(metadata);
    const body = await input.take(checked(bodyBytes, path));
    if (body === null) break;
    yield { kind: type === recordBatch ? "batch" : "other", bytes: Buffer.concat([prefix, metadata, body]) };
  }
}

/** MessageHeader of Message.fbs. */
const recordBatch = 3;

/** Type of the header and length of the body: fields 1 and 3 of the table Message in Arrow's Message.fbs. */
function describeMessage(metadata: Uint8Array): { type: number; bodyBytes: number } {
  const view = new DataView(metadata.buffer, metadata.byteOffset, metadata.byteLength);
  const table = view.getUint32(0, true);
  const fields = table - view.getInt32(table, true);
  const place = (field: number): number | null => {
    const at = 4 + 2 * field;
    const offset = at + 2 <= view.getUint16(fields, true) ? view.getUint16(fields + at, true) : 0;
    return offset === 0 ? null : table + offset;
  };
  const [type, body] = [place(1), place(3)];
  return {
    type: type === null ? 0 : view.getUint8(type),
    bodyBytes: body === null ? 0 : Number(view.getBigInt64(body, true)),
  };
}

function checked(bytes: number, path: string): number {
  if (bytes >= 0 && bytes <= maxMessageBytes) return bytes;
  throw malformedRow(`${path} has a record batch of ${bytes} bytes, the limit is ${maxMessageBytes}`);
}

/** Takes exact numbers of bytes from a stream; null at its end. */
function chunkReader(
  chunks: AsyncIterable<Uint8Array>,
  path: string,
): { take: (bytes: number) => Promise<Uint8Array | null> } {
  const iterator = chunks[Symbol.asyncIterator]();
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  return {
    take: async (bytes) => {
      while (heldBytes < bytes) {
        const { done, value } = (await iterator.next()) as IteratorResult<Uint8Array, undefined>;
        if (done === true) {
          if (heldBytes === 0) return null;
          throw malformedRow(`${path} ends in the middle of a record batch. Is it whole?`);
        }
        held.push(value);
        heldBytes += value.length;
      }
      const all = held.length === 1 ? held[0]! : Buffer.concat(held);
      held = [all.subarray(bytes)];
      heldBytes -= bytes;
      // A copy of its own: views into it must be aligned.
      return Uint8Array.from(all.subarray(0, bytes));
    },
  };
}
