import { leavesOf } from "../../execution/leaves";
import type { CalibrateOptions } from "../../../protocol/calibrateOptions";

/** How many tiles work is cut into, for estimates: told here without loading what computes them. */

/** Tiles of a profile: one to four leaves each, so that sixteen workers have something to do. */
export function profileTileCount(numSequences: number, sequenceLength: number): number {
  const { sequences, perBlock } = leavesOf(sequenceLength);
  const numLeaves = Math.ceil(numSequences / sequences);
  const most = Math.min(4, perBlock, Math.max(1, numLeaves / 16));
  return Math.ceil(numLeaves / 2 ** Math.floor(Math.log2(most)));
}

/** Single sequences of an update's batch, or where it has more than sixteen, aligned parts of a power of two. */
export function gradientTileCount(batch: number): number {
  return Math.ceil(batch / 2 ** Math.max(0, Math.ceil(Math.log2(batch / 16))));
}

/** Whether workers make the gradients of updates: of Router KD with targets that are there before. */
export function spreadsUpdates({ scope, loss, teacherRouting }: CalibrateOptions): boolean {
  return scope === "router" && loss !== "router-logits" && teacherRouting?.kind !== "student-aware";
}
