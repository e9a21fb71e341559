import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { writeError } from "../checkpoint/atomicFile";
import { readInto } from "../checkpoint/smallFile";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { mapLogits, type LogitMapping } from "./routerLogits";

/**
 * The teacher's router logits on the student's axis, in a file: sequence after sequence, of each the layers one after
 * another, [positions, experts] f32.
 */
export class RouterLogitTargets {
  readonly sequenceBytes: number;
  readonly #offsets = new Map<number, number>();

  constructor(
    readonly file: string,
    readonly sequenceLength: number,
    readonly mapping: LogitMapping,
  ) {
    let bytes = 0;
    for (const [layer, experts] of mapping) {
      this.#offsets.set(layer, bytes);
      bytes += sequenceLength * experts.length * 4;
    }
    this.sequenceBytes = bytes;
  }

  /** Logits of one layer for the given sequences, [sequences * positions, experts]. */
  async read(layer: number, numbers: ArrayLike<number>): Promise<Float32Array> {
    const size = this.sequenceLength * this.mapping.get(layer)!.length;
    const result = new Float32Array(numbers.length * size);
    const handle = await open(this.file, "r");
    try {
      for (let i = 0; i < numbers.length; i++) {
        const part = new Uint8Array(result.buffer, i * size * 4, size * 4);
        await readInto(handle, this.file, numbers[i]! * this.sequenceBytes + this.#offsets.get(layer)!, part);
      }
    } finally {
      await handle.close();
    }
    return result;
  }

  /** Writes what a teacher's pass shows, chunk by chunk, whole sequences each. `close` makes it durable. */
  writer(isNew: boolean): RouterLogitWriter {
    return new RouterLogitWriter(this, isNew);
  }

  offsetOf(sequence: number, layer: number): number {
    return sequence * this.sequenceBytes + this.#offsets.get(layer)!;
  }
}

class RouterLogitWriter implements RoutingObserver {
  readonly readsRoutingOnly = true;
  /** Number of the batch's first sequence. */
  firstSequence = 0;
  readonly #handle: number;

  constructor(
    readonly targets: RouterLogitTargets,
    isNew: boolean,
  ) {
    this.#handle = openSync(targets.file, isNew ? "w" : "r+");
  }

  observe({ layer, firstToken, numTokens, numRouterRows, routerLogits }: MoeObservation): void {
    const mapping = this.targets.mapping.get(layer);
    if (mapping === undefined) return;
    const { sequenceLength: s } = this.targets;
    const mapped = mapLogits(routerLogits, numRouterRows, mapping);
    const size = s * mapping.length;
    for (let i = 0; i < numTokens / s; i++) {
      const sequence = this.firstSequence + firstToken / s + i;
      this.#write(mapped.subarray(i * size, (i + 1) * size), this.targets.offsetOf(sequence, layer));
    }
  }

  sync(): void {
    fsyncSync(this.#handle);
  }

  close(): void {
    closeSync(this.#handle);
  }

  #write(rows: Float32Array, position: number): void {
    const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
    try {
      for (let done = 0; done < bytes.length;)
        done += writeSync(this.#handle, bytes, done, bytes.length - done, position + done);
    } catch (error) {
      throw writeError(error, this.targets.file);
    }
  }
}

export type { RouterLogitWriter };
