import type { RotaryDescription } from "../model/description";
import { rotaryTables } from "../model/rotary";
import type { Tensor } from "../runtime/session";
import { float32 } from "./tensors";

/** What is added to the score of a pair that must not see each other; its exponential is exactly 0. */
const hidden = -1e30;

/** Feeds that every attention run of one length shares: the causal (sliding-window, chunked) mask, and rotary tables. */
export function positionFeeds(
  rotary: RotaryDescription | null,
  sequenceLength: number,
  slidingWindow: number | null,
  chunk = sequenceLength,
): Record<string, Tensor> {
  const s = sequenceLength;
  const mask = new Float32Array(s * s);
  for (let query = 0; query < s; query++) {
    for (let key = 0; key < s; key++) {
      const near = slidingWindow === null || key > query - slidingWindow;
      const visible = key <= query && near && Math.floor(key / chunk) === Math.floor(query / chunk);
      if (!visible) mask[query * s + key] = hidden;
    }
  }
  const feeds: Record<string, Tensor> = { mask: float32(mask, [s, s]) };
  if (rotary === null) return feeds;
  const { cos, sin } = rotaryTables(rotary, s);
  return { ...feeds, cos: float32(cos, [s, rotary.dims / 2]), sin: float32(sin, [s, rotary.dims / 2]) };
}
