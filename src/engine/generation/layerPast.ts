import { pastParts, type PastPart } from "../graph/blocks/attentionPast";
import type { AttentionDescription } from "../model/description";
import type { Tensor } from "../runtime/session";
import { float32, floats } from "../execution/tensors";

/** Slots are added in blocks, so that the sums of a softmax are taken in the same order whatever the room. */
const slotBlock = 64;

/**
 * Tokens that a layer must remember: a window's or a chunk's, in a ring of that many slots; Infinity for all. Position p
 * lies in slot p modulo this.
 */
export function rememberedTokens(attention: AttentionDescription): number {
  if (!("slidingWindow" in attention)) return Infinity;
  const { slidingWindow, chunk } = attention;
  const least = Math.min(slidingWindow === null ? Infinity : Math.max(1, slidingWindow - 1), chunk ?? Infinity);
  return least === Infinity ? Infinity : Math.ceil(least / slotBlock) * slotBlock;
}

/** The position that a slot holds once `length` tokens were stored; -1 for none. */
export function positionOfSlot(length: number, slot: number, ring: number): number {
  if (slot >= length) return -1;
  return ring === Infinity ? slot : length - 1 - ((length - 1 - slot) % ring);
}

/** Slots for so many tokens. */
export function slotsFor(tokens: number, ring: number): number {
  return Math.min(ring, Math.ceil(Math.max(1, tokens) / slotBlock) * slotBlock);
}

/** Numbers that a sequence of `tokens` takes in a layer. */
export function pastNumbers(attention: AttentionDescription, tokens: number): number {
  const slots = slotsFor(tokens, rememberedTokens(attention));
  return pastParts(attention).reduce((sum, part) => sum + partNumbers(part, slots), 0);
}

function partNumbers(part: PastPart, slots: number): number {
  switch (part.kind) {
    case "by-token":
      return part.heads * slots * part.width;
    case "last-inputs":
      return part.tokens * part.width;
    case "state":
      return part.shape.reduce((size, dim) => size * dim, 1);
  }
}

/**
 * What one layer keeps of a batch of sequences, f32, sequences outermost: those in front are one view. It grows with
 * the longest of them.
 */
export class LayerPast {
  readonly ring: number;
  /** Tokens that there is room for. */
  slots = 0;
  readonly #parts: { part: PastPart; data: Float32Array }[];

  constructor(
    attention: AttentionDescription,
    readonly rows: number,
  ) {
    this.ring = rememberedTokens(attention);
    this.#parts = pastParts(attention).map((part) => ({
      part,
      data: new Float32Array(part.kind === "by-token" ? 0 : rows * partNumbers(part, 0)),
    }));
  }

  get bytes(): number {
    return this.#parts.reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  /** Makes room for sequences of `tokens`; half as many again, so that copying stays rare. */
  reserve(tokens: number, limit: number): void {
    const needed = slotsFor(tokens, this.ring);
    if (needed <= this.slots) return;
    const slots = Math.max(needed, Math.min(slotsFor(this.slots * 1.5, this.ring), slotsFor(limit, this.ring)));
    for (const entry of this.#parts) {
      const { part, data } = entry;
      if (part.kind !== "by-token") continue;
      const grown = new Float32Array(this.rows * partNumbers(part, slots));
      for (let i = 0; i < this.rows * part.heads; i++) {
        const from = i * this.slots * part.width;
        grown.set(data.subarray(from, from + this.slots * part.width), i * slots * part.width);
      }
      entry.data = grown;
    }
    this.slots = slots;
  }

  /** Inputs `past:<name>` of sequences [from, to). */
  feeds(from: number, to: number): Record<string, Tensor> {
    return Object.fromEntries(
      this.#parts.map(({ part, data }) => {
        const size = partNumbers(part, this.slots);
        return [`past:${part.name}`, float32(data.subarray(from * size, to * size), [to - from, ...this.#shape(part)])];
      }),
    );
  }

  /**
   * Adds the outputs `new:<name>` of sequences from `from` on.
   *
   * @param lengths tokens that each had before
   * @param counts how many of the S new tokens count
   */
  append(
    from: number,
    lengths: ArrayLike<number>,
    counts: ArrayLike<number>,
    s: number,
    outputs: Readonly<Record<string, Tensor>>,
  ): void {
    for (const { part, data } of this.#parts) {
      const fresh = floats(outputs[`new:${part.name}`]!);
      const size = partNumbers(part, this.slots);
      for (let i = 0; i < counts.length; i++) {
        const own = data.subarray((from + i) * size, (from + i + 1) * size);
        if (part.kind === "state") own.set(fresh.subarray(i * size, (i + 1) * size));
        else if (part.kind === "last-inputs") shift(own, fresh.subarray(i * s * part.width), counts[i]!, part.width);
        else this.#write(own, fresh.subarray(i * part.heads * s * part.width), part, lengths[i]!, counts[i]!, s);
      }
    }
  }

  #write(
    own: Float32Array,
    fresh: Float32Array,
    { heads, width }: Extract<PastPart, { kind: "by-token" }>,
    length: number,
    count: number,
    s: number,
  ): void {
    for (let head = 0; head < heads; head++) {
      for (let i = Math.max(0, count - this.ring); i < count; i++) {
        const slot = this.ring === Infinity ? length + i : (length + i) % this.ring;
        const from = (head * s + i) * width;
        own.set(fresh.subarray(from, from + width), (head * this.slots + slot) * width);
      }
    }
  }

  /** Puts what a sequence left into the place of another. */
  move(from: number, to: number): void {
    for (const { part, data } of this.#parts) {
      const size = partNumbers(part, this.slots);
      data.copyWithin(to * size, from * size, (from + 1) * size);
    }
  }

  #shape(part: PastPart): readonly number[] {
    switch (part.kind) {
      case "by-token":
        return [part.heads, this.slots, part.width];
      case "last-inputs":
        return [part.tokens, part.width];
      case "state":
        return part.shape;
    }
  }
}

/** The last inputs once `count` of the fresh ones came behind them. */
function shift(own: Float32Array, fresh: Float32Array, count: number, width: number): void {
  const kept = own.length / width - count;
  if (kept > 0) own.copyWithin(0, count * width);
  const first = Math.max(0, -kept);
  own.set(fresh.subarray(first * width, count * width), Math.max(0, kept) * width);
}
