import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { RerouteError } from "../../../protocol/errors";
import type { TextCompression } from "../../../protocol/textFormats";
import { zstdStream } from "./zstd";

/** Text compresses to a tenth, log files to a fiftieth; what unpacks to more than this is made to fill a disk. */
export const maxExpansion = 200;
/** Small files may expand as they like. */
const alwaysUnpackedBytes = 4 * 2 ** 20;

/**
 * The bytes of a file, unpacked, streamed: memory holds a chunk, whatever the file's size.
 *
 * @throws `data/malformed` for a broken stream, or one that unpacks to {@link maxExpansion} times its size; file system errors as they are
 */
export function readBytes(path: string, compression: TextCompression | null): AsyncIterable<Uint8Array> {
  const stored = createReadStream(path);
  return compression === null ? (stored as AsyncIterable<Buffer>) : unpack(path, stored, compression);
}

async function* unpack(
  path: string,
  stored: ReturnType<typeof createReadStream>,
  compression: TextCompression,
): AsyncGenerator<Uint8Array> {
  let read = 0;
  let written = 0;
  stored.on("data", (chunk) => (read += chunk.length));
  try {
    for await (const chunk of unpackers[compression](stored)) {
      written += chunk.length;
      if (written > alwaysUnpackedBytes && written > maxExpansion * read) {
        throw new RerouteError(
          "data/malformed",
          `${path} unpacks to more than ${maxExpansion} times its size, which text does not; unpack it yourself if it is meant so`,
        );
      }
      yield chunk;
    }
  } catch (cause) {
    // The file system's own errors carry a system call; the rest are the unpacker's.
    if (cause instanceof RerouteError || (cause as NodeJS.ErrnoException).syscall !== undefined) throw cause;
    throw new RerouteError(
      "data/malformed",
      `${path} cannot be unpacked: ${(cause as Error).message}. Is it whole, and is it .${compression}?`,
      { cause },
    );
  } finally {
    stored.destroy();
  }
}

const unpackers: Record<TextCompression, (stored: ReturnType<typeof createReadStream>) => AsyncIterable<Uint8Array>> = {
  gz: (stored) => {
    const gunzip = createGunzip();
    stored.on("error", (error) => gunzip.destroy(error));
    return stored.pipe(gunzip) as AsyncIterable<Buffer>;
  },
  zst: (stored) => zstdStream(stored as AsyncIterable<Buffer>),
};
