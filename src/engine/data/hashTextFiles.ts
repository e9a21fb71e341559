import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename } from "node:path";
import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import { listTextFiles } from "./documents";

/**
 * SHA-256, hex: of the bytes of a text file; for a folder, of the lines `<name>\t<SHA-256 of its bytes>\n` of its files, sorted
 * by name.
 *
 * @throws `data/not-found`, `cancelled`
 */
export async function hashTextFiles(path: string, signal?: AbortSignal): Promise<string> {
  const files = await listTextFiles(path);
  if (files.length === 1 && files[0] === path) return hashFile(path, signal);
  const all = createHash("sha256");
  for (const file of files) all.update(`${basename(file)}\t${await hashFile(file, signal)}\n`);
  return all.digest("hex");
}

async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
      throwIfCancelled(signal);
      hash.update(chunk);
    }
  } catch (cause) {
    if (cause instanceof RerouteError) throw cause;
    throw new RerouteError("data/not-found", `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return hash.digest("hex");
}
