import type { CalibrateOptions } from "../../../protocol/calibrateOptions";
import { leavesOf } from "../../execution/leaves";

/** Where work is cut into tiles; loads nothing that computes them, since estimates count them, too. */

/** Sequences [from, to). */
export interface Slice {
  from: number;
  to: number;
}

/** Nodes of the tree over a text's leaves: few enough that 16 are made where there are leaves for them, at most `most` leaves each. */
export function leafTiles(numSequences: number, sequenceLength: number, most = 4): (Slice & { leaves: number })[] {
  const { sequences, perBlock } = leavesOf(sequenceLength);
  const numLeaves = Math.ceil(numSequences / sequences);
  const leaves = 2 ** Math.floor(Math.log2(Math.min(most, perBlock, Math.max(1, numLeaves / 16))));
  return slicesOf(numLeaves, leaves).map(({ from, to }) => ({
    ...{ from: from * sequences, to: Math.min(numSequences, to * sequences), leaves: to - from },
  }));
}

/** An update is cut into single sequences, or where it has more than these, into aligned parts of a power of two. */
const mostGradientTiles = 16;

/** Parts of an update's batch, by place in it. */
export function batchParts(batch: number): Slice[] {
  return slicesOf(batch, 2 ** Math.max(0, Math.ceil(Math.log2(batch / mostGradientTiles))));
}

/** Parts of a teacher's targets: of two leaves' tokens, for a quarter of a gigabyte of hidden states at most. */
export function targetTiles(numSequences: number, sequenceLength: number): Slice[] {
  return slicesOf(numSequences, Math.max(1, Math.floor(2 ** 14 / sequenceLength)));
}

/** Parts of a held-out evaluation. */
export function heldOutTiles(numSequences: number): Slice[] {
  return slicesOf(numSequences, 8);
}

/** Whether workers make the gradients of updates: of Router KD with targets that are there before. */
export function spreadsUpdates({ scope, loss, teacherRouting }: CalibrateOptions): boolean {
  return scope === "router" && loss !== "router-logits" && teacherRouting?.kind !== "student-aware";
}

function slicesOf(count: number, size: number): Slice[] {
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => ({
    ...{ from: i * size, to: Math.min(count, (i + 1) * size) },
  }));
}
