import type { FileHandle } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { maxHeaderBytes } from "../checkpoint/limits";
import { quote } from "../checkpoint/quote";
import { readInto } from "../checkpoint/smallFile";

/** Strings of real files are chat templates at most; the format has no limit of its own. */
const maxStringBytes = 4_000_000;
const chunkBytes = 2 ** 20;

/**
 * Little-endian numbers and strings from the beginning of a file on, in order, in memory of one chunk. Nothing is made of
 * the size that the file claims before the file is known to hold it.
 */
export class GgufReader {
  #buffer: Uint8Array = new Uint8Array(0);
  /** Position of the buffer's first byte in the file. */
  #start = 0;
  #at = 0;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });

  constructor(
    private readonly file: FileHandle,
    private readonly path: string,
    readonly fileSize: number,
  ) {}

  /** Bytes read so far. */
  get position(): number {
    return this.#start + this.#at;
  }

  async uint32(): Promise<number> {
    return (await this.#view(4)).getUint32(0, true);
  }

  /**
   * A 64-bit count or size.
   * @throws RerouteError checkpoint/malformed beyond 2^53 - 1
   */
  async size(what: string): Promise<number> {
    const value = (await this.#view(8)).getBigUint64(0, true);
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    throw this.malformed(`${what} is ${value.toString()}`);
  }

  /** One number of a metadata type; 64-bit integers beyond 2^53 are rounded. */
  async number(type: keyof typeof numberBytes): Promise<number> {
    const view = await this.#view(numberBytes[type]);
    switch (type) {
      case "uint8":
        return view.getUint8(0);
      case "int8":
        return view.getInt8(0);
      case "uint16":
        return view.getUint16(0, true);
      case "int16":
        return view.getInt16(0, true);
      case "uint32":
        return view.getUint32(0, true);
      case "int32":
        return view.getInt32(0, true);
      case "float32":
        return view.getFloat32(0, true);
      case "uint64":
        return Number(view.getBigUint64(0, true));
      case "int64":
        return Number(view.getBigInt64(0, true));
      case "float64":
        return view.getFloat64(0, true);
    }
  }

  async string(what: string): Promise<string> {
    const bytes = await this.#take(await this.#stringLength(what));
    try {
      return this.#decoder.decode(bytes);
    } catch {
      throw this.malformed(`${what} is not valid UTF-8`);
    }
  }

  /** Passes over a string without looking at it. */
  async skipString(what: string): Promise<void> {
    await this.skip(await this.#stringLength(what));
  }

  async skip(bytes: number): Promise<void> {
    this.#require(bytes);
    const kept = this.#buffer.length - this.#at;
    if (bytes <= kept) {
      this.#at += bytes;
      return;
    }
    this.#start = this.position + bytes;
    this.#buffer = new Uint8Array(0);
    this.#at = 0;
  }

  malformed(problem: string): RerouteError {
    return new RerouteError(
      "checkpoint/malformed",
      `cannot read the GGUF header of ${quote(this.path)}: ${problem}; download or write the file again`,
    );
  }

  limit(what: string, found: number, most: number): RerouteError {
    return new RerouteError("checkpoint/limit", `${quote(this.path)} has ${found} ${what}, the limit is ${most}`);
  }

  async #stringLength(what: string): Promise<number> {
    const length = await this.size(`the length of ${what}`);
    if (length > maxStringBytes) throw this.limit(`bytes in ${what}`, length, maxStringBytes);
    return length;
  }

  async #view(bytes: number): Promise<DataView> {
    const taken = await this.#take(bytes);
    return new DataView(taken.buffer, taken.byteOffset, bytes);
  }

  /** The next bytes; valid until the next call. */
  async #take(bytes: number): Promise<Uint8Array> {
    this.#require(bytes);
    if (this.#at + bytes > this.#buffer.length) {
      this.#start = this.position;
      this.#at = 0;
      this.#buffer = new Uint8Array(Math.min(Math.max(bytes, chunkBytes), this.fileSize - this.#start));
      await readInto(this.file, this.path, this.#start, this.#buffer);
    }
    this.#at += bytes;
    return this.#buffer.subarray(this.#at - bytes, this.#at);
  }

  #require(bytes: number): void {
    const end = this.position + bytes;
    if (end > maxHeaderBytes) {
      throw new RerouteError(
        "checkpoint/limit",
        `the GGUF header of ${quote(this.path)} is longer than ${maxHeaderBytes} bytes, which is the limit`,
      );
    }
    if (end > this.fileSize) {
      throw new RerouteError(
        "checkpoint/truncated",
        `${quote(this.path)} ends at byte ${this.fileSize}, its GGUF header goes on to ${end} at least; download the file again`,
      );
    }
  }
}

export const numberBytes = {
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
  float32: 4,
  uint64: 8,
  int64: 8,
  float64: 8,
} as const;
