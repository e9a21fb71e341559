import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { RerouteError } from "../../../protocol/errors";
import { writeNewFile } from "../../checkpoint/atomicFile";
import { quote } from "../../checkpoint/quote";
import { tileResult, type TileResult } from "./tile";

/** Seconds that a file may take to appear behind the message that names it: network folders cache what is not there. */
export const appearsWithin = 60;

/** Tiles of a run: `<key>.safetensors`, and `<key>.json`, which says that it is whole and is written after it. */
export class TileStore {
  /**
   * @param suffix of tiles that are done again
   * @param pause waits so many milliseconds
   */
  constructor(
    readonly folder: string,
    readonly suffix = "",
    readonly pause: (ms: number) => Promise<unknown> = wait,
  ) {}

  /** Where one process works on tiles that another may work on, too. */
  own(): TileStore {
    return new TileStore(this.folder, `${this.suffix}.${randomUUID()}`, this.pause);
  }

  /** Gives a tile that this store has to another, under its name there. */
  async give(key: string, to: TileStore): Promise<void> {
    await rename(this.extra(key), to.extra(key)).catch(() => undefined);
    await rename(this.handed(key), to.handed(key)).catch(() => undefined);
    await rename(this.file(key), to.file(key));
  }

  /** Where the tile is done again. */
  again(): TileStore {
    return new TileStore(this.folder, ".again", this.pause);
  }

  file(key: string): string {
    return path.join(this.folder, `${key}${this.suffix}.safetensors`);
  }

  /** What a tile says beside its tensors, where its kind does. */
  extra(key: string): string {
    return path.join(this.folder, `${key}${this.suffix}.extra.json`);
  }

  /** Hidden states for the tile of the next layers, where a run cuts them into parts. */
  handed(key: string): string {
    return path.join(this.folder, this.handedName(key));
  }

  handedName(key: string): string {
    return `${key}${this.suffix}.hidden.safetensors`;
  }

  async make(): Promise<void> {
    await mkdir(this.folder, { recursive: true });
  }

  /** A tile that is done and whole; null where it is not. What is damaged is taken away. */
  async find(key: string): Promise<TileResult | null> {
    const text = await readFile(this.#record(key), "utf8").catch(() => null);
    if (text === null) return null;
    const parsed = tileResult.safeParse(json(text));
    if (parsed.success && parsed.data.key === key && (await this.isWhole(parsed.data))) return parsed.data;
    await this.remove(key);
    return null;
  }

  /** Whether the tile's file is what its worker said. */
  async isWhole({ key, extra, hidden, ...tensors }: TileResult, waitSeconds = 0): Promise<boolean> {
    const isAs = async (file: string, part: { bytes: number; sha256: string }) =>
      (await this.#sizeWhenThere(file, waitSeconds)) === part.bytes && (await hashOf(file, part.bytes)) === part.sha256;
    if (extra && !(await isAs(this.extra(key), extra))) return false;
    if (hidden && hidden.isUsed !== true && !(await isAs(this.handed(key), hidden))) return false;
    return isAs(this.file(key), tensors);
  }

  /** Whether somebody has said that the tile is whole. */
  async isRecorded(key: string): Promise<boolean> {
    return stat(this.#record(key)).then(
      () => true,
      () => false,
    );
  }

  /** Says that a tile's file is whole. */
  async record(result: TileResult): Promise<void> {
    const [own, file] = [`${this.#record(result.key)}.${randomUUID()}`, this.#record(result.key)];
    // Worker and coordinator may say so at once, and each under a name of its own.
    await writeNewFile(own, `${JSON.stringify(result)}\n`);
    await rename(own, file);
  }

  async remove(key: string): Promise<void> {
    for (const file of [this.#record(key), this.file(key), this.extra(key), this.handed(key)])
      await rm(file, { force: true });
  }

  /** Takes away all tiles and inputs; the folder stays. */
  async clear(): Promise<void> {
    for (const name of await readdir(this.folder).catch(() => []))
      await rm(path.join(this.folder, name), { force: true });
  }

  /**
   * An input by name and hash, as a path to read.
   * @throws RerouteError run/invalid where it does not appear or is another one
   */
  async input({ name, sha256 }: { name: string; sha256: string }, waitSeconds = appearsWithin): Promise<string> {
    const file = path.join(this.folder, name);
    const size = await this.#sizeWhenThere(file, waitSeconds);
    const found = size === null ? "nothing" : await hashOf(file, size);
    if (found === sha256) return file;
    throw new RerouteError(
      "run/invalid",
      `${quote(file)} is ${found}, expected the SHA-256 ${sha256}; check that coordinator and worker see the same folder (--map)`,
    );
  }

  /** Bytes of a file, which may be some time in coming; null where it does not come. */
  async #sizeWhenThere(file: string, seconds: number): Promise<number | null> {
    for (let waited = 0; ; waited++) {
      const found = await stat(file).catch(() => null);
      if (found !== null || waited >= seconds) return found?.size ?? null;
      await this.pause(1000);
    }
  }

  #record(key: string): string {
    return path.join(this.folder, `${key}${this.suffix}.json`);
  }
}

/** Bytes of a file that is hashed in one go. */
const smallBytes = 2 ** 16;

export async function hashOfFile(file: string): Promise<string> {
  return hashOf(file, (await stat(file)).size);
}

async function hashOf(file: string, size: number): Promise<string> {
  const hash = createHash("sha256");
  if (size <= smallBytes) return hash.update(await readFile(file)).digest("hex");
  for await (const part of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(part as Buffer);
  return hash.digest("hex");
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
