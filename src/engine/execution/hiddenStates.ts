import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import { writeError } from "../checkpoint/atomicFile";
import { noteAllocation } from "../runtime/garbage";

/**
 * Hidden states of a batch, [numTokens, width] float32, in memory or in a scratch file past the memory budget. Held with `using`,
 * they are closed on every path; a second close does nothing.
 */
export interface HiddenStates extends Disposable {
  readonly numTokens: number;
  readonly width: number;
  /** Rows [from, to). The array may be a view: treat it as read-only. */
  read: (from: number, to: number) => Float32Array;
  /** Replaces rows from `from` on. */
  write: (from: number, rows: Float32Array) => void;
  close: () => void;
}

export class MemoryHiddenStates implements HiddenStates {
  readonly #rows: Float32Array;

  constructor(
    readonly numTokens: number,
    readonly width: number,
  ) {
    this.#rows = new Float32Array(numTokens * width);
  }

  read(from: number, to: number): Float32Array {
    return this.#rows.subarray(from * this.width, to * this.width);
  }

  write(from: number, rows: Float32Array): void {
    this.#rows.set(rows, from * this.width);
  }

  close(): void {
    // Nothing to give back: the array goes with the object.
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Rows in a scratch file that is deleted on close. Reads and writes are synchronous: the engine process does nothing else. */
export class FileHiddenStates implements HiddenStates {
  readonly #file: number;
  readonly #path: string;
  #closed = false;

  constructor(
    readonly numTokens: number,
    readonly width: number,
    directory: string,
  ) {
    mkdirSync(directory, { recursive: true });
    this.#path = path.join(directory, `hidden-${process.pid}-${FileHiddenStates.#next++}.f32`);
    try {
      this.#file = openSync(this.#path, "wx+");
      // Without a name the space goes back when the process ends, however it ends. Windows keeps the names of open files.
      if (process.platform !== "win32") rmSync(this.#path);
      ftruncateSync(this.#file, numTokens * width * 4);
    } catch (error) {
      throw writeError(error, this.#path);
    }
  }

  static #next = 0;

  read(from: number, to: number): Float32Array {
    return readRows(this.#file, this.width, from, to);
  }

  /** @throws RerouteError `output/write-failed`, for example where the disk is full */
  write(from: number, rows: Float32Array): void {
    try {
      transfer(writeSync, this.#file, rows, from * this.width * 4);
    } catch (error) {
      throw writeError(error, this.#path);
    }
  }

  /** Waits until the disk has everything. */
  flush(): void {
    fsyncSync(this.#file);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
    if (process.platform === "win32") rmSync(this.#path, { force: true });
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Rows of a file that something else keeps, such as teacher targets; read where they are used, so they take no memory. */
export class StoredHiddenStates implements HiddenStates {
  readonly #file: number;
  #closed = false;

  /** @param numTokens rows that the file holds */
  constructor(
    path: string,
    readonly numTokens: number,
    readonly width: number,
  ) {
    this.#file = openSync(path, "r");
  }

  read(from: number, to: number): Float32Array {
    return readRows(this.#file, this.width, from, to);
  }

  /** @throws Error always: the file is not this object's */
  write(): void {
    throw new Error("stored hidden states are read only");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#file);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The same rows in a scratch file; the rows in memory are given up. */
export function spill(hidden: HiddenStates, directory: string): HiddenStates {
  if (hidden instanceof FileHiddenStates) return hidden;
  const file = new FileHiddenStates(hidden.numTokens, hidden.width, directory);
  try {
    file.write(0, hidden.read(0, hidden.numTokens));
  } catch (error) {
    file.close();
    throw error;
  }
  hidden.close();
  return file;
}

function readRows(file: number, width: number, from: number, to: number): Float32Array {
  const rows = new Float32Array((to - from) * width);
  transfer(readSync, file, rows, from * width * 4);
  noteAllocation(rows.byteLength);
  return rows;
}

type Transfer = (file: number, bytes: Uint8Array, offset: number, length: number, position: number) => number;

/** One call moves at most 2,147,479,552 bytes on Linux, and may move fewer than asked. */
function transfer(call: Transfer, file: number, rows: Float32Array, position: number): void {
  const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
  for (let done = 0; done < bytes.length;) {
    const moved = call(file, bytes, done, Math.min(bytes.length - done, 2 ** 30), position + done);
    if (moved === 0) throw new Error(`scratch file ended at byte ${position + done}`);
    done += moved;
  }
}
