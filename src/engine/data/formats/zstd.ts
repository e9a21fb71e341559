import { decompress, Decompress } from "fzstd";

/** Unpacked bytes of a Zstandard stream (RFC 8878), chunk by chunk; Node 20 has none of its own. Dictionaries are not read. */
export async function* zstdStream(stored: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const ready: Uint8Array[] = [];
  const stream = new Decompress((chunk) => {
    if (chunk.length > 0) ready.push(chunk);
  });
  for await (const chunk of stored) {
    stream.push(chunk);
    yield* ready.splice(0);
  }
  stream.push(new Uint8Array(0), true);
  yield* ready.splice(0);
}

/** One Zstandard frame of known length, as Parquet's pages are stored. */
export function zstdUnpack(packed: Uint8Array, length: number): Uint8Array {
  return decompress(packed, new Uint8Array(length));
}
