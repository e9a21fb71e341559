import { float32 } from "../execution/tensors";
import type { AttentionDescription, RotaryDescription } from "../model/description";
import { rotaryTables } from "../model/rotary";
import type { Tensor } from "../runtime/session";
import { positionOfSlot, type LayerPast } from "./layerPast";

/** Sequences that take a step together. */
export interface StepRows {
  /** Tokens that each had before. */
  lengths: Int32Array;
  /** How many of the S new ones count. */
  counts: Int32Array;
  s: number;
}

/** What is added to the score of a pair that must not see each other; its exponential is exactly 0. */
const hidden = -1e30;

/** Positions and masks of steps, which all layers of a kind share. */
export class StepFeeds {
  readonly #tables = new Map<string, { cos: Float32Array; sin: Float32Array }>();
  /** Those of the last step only: masks of long prompts are large. */
  readonly #shared = new Map<string, Record<string, Tensor>>();
  #last = "";

  /** @param limit tokens that no sequence exceeds */
  constructor(readonly limit: number) {}

  of(attention: AttentionDescription, past: LayerPast, rows: StepRows): Record<string, Tensor> {
    const { s, counts, lengths } = rows;
    const step = `${s} ${lengths.join()} ${counts.join()}`;
    if (this.#last !== step) {
      this.#last = step;
      this.#shared.clear();
    }
    if (!("rotary" in attention)) {
      return this.#once("valid", () => {
        const valid = Float32Array.from({ length: counts.length * s }, (_, i) =>
          i % s < counts[Math.floor(i / s)]! ? 1 : 0,
        );
        return { valid: float32(valid, [counts.length, s]) };
      });
    }
    const { rotary, slidingWindow, chunk, positionScale } = attention;
    const { slots, ring } = past;
    const mask = this.#once(JSON.stringify([slidingWindow, chunk, slots, ring]), () => ({
      mask: maskOf(rows, slots, ring, slidingWindow, chunk ?? Infinity),
      queryLength: int64([s]),
      keySizes: int64([s, slots]),
      keyCount: int64([s + slots]),
    }));
    const angles = rotary === null ? {} : this.#once(JSON.stringify(rotary), () => this.#angles(rotary, rows));
    const stretch =
      positionScale === null
        ? {}
        : this.#once(JSON.stringify(positionScale), () => {
            const { coefficient, period, offset } = positionScale;
            const factor = (position: number) => 1 + coefficient * Math.log1p(Math.floor((position + offset) / period));
            return { stretch: float32(positionsOf(rows).map(factor), [counts.length, 1, s, 1]) };
          });
    return { ...mask, ...angles, ...stretch };
  }

  #once(key: string, make: () => Record<string, Tensor>): Record<string, Tensor> {
    const known = this.#shared.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#shared.set(key, made);
    return made;
  }

  #angles(rotary: RotaryDescription, rows: StepRows): Record<string, Tensor> {
    const key = JSON.stringify(rotary);
    let tables = this.#tables.get(key);
    if (tables === undefined) {
      tables = rotaryTables(rotary, this.limit);
      this.#tables.set(key, tables);
    }
    const half = rotary.dims / 2;
    const positions = positionsOf(rows);
    const pick = (table: Float32Array): Tensor => {
      const picked = new Float32Array(positions.length * half);
      positions.forEach((position, i) => {
        // Tokens that only fill up may lie behind the last position.
        const from = Math.min(position, this.limit - 1) * half;
        picked.set(table.subarray(from, from + half), i * half);
      });
      return float32(picked, [rows.counts.length, 1, rows.s, half]);
    };
    return { cos: pick(tables.cos), sin: pick(tables.sin) };
  }
}

/** [B, S] */
function positionsOf({ lengths, s }: StepRows): Float32Array {
  return Float32Array.from({ length: lengths.length * s }, (_, i) => lengths[Math.floor(i / s)]! + (i % s));
}

/** [B, 1, 1, S, S + slots]: the new tokens first, then the slots of the past. */
function maskOf({ lengths, s }: StepRows, slots: number, ring: number, window: number | null, chunk: number): Tensor {
  const width = s + slots;
  const mask = new Float32Array(lengths.length * s * width).fill(hidden);
  const near = window ?? Infinity;
  const sees = (query: number, key: number) =>
    query - key < near && Math.floor(query / chunk) === Math.floor(key / chunk);
  for (let row = 0; row < lengths.length; row++) {
    const length = lengths[row]!;
    for (let i = 0; i < s; i++) {
      const at = (row * s + i) * width;
      for (let j = 0; j <= i; j++) if (sees(length + i, length + j)) mask[at + j] = 0;
      const filled = Math.min(slots, length);
      for (let slot = 0; slot < filled; slot++) {
        if (sees(length + i, positionOfSlot(length, slot, ring))) mask[at + s + slot] = 0;
      }
    }
  }
  return float32(mask, [lengths.length, 1, 1, s, width]);
}

function int64(numbers: readonly number[]): Tensor {
  return { type: "int64", shape: [numbers.length], data: BigInt64Array.from(numbers, BigInt) };
}
