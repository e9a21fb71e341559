import type { Tensor } from "../runtime/session";

/** Feeds that tell an experts graph which row of which expert each (token, slot) became. */
export type AssignmentFeeds = Record<"tokenOfRow" | "splitSizes" | "rowOfSlot" | "slotOfRow" | "selectedIds", Tensor>;

/**
 * Groups (token, slot) pairs by expert: rows of expert 0 first, tokens ascending inside an expert, so that the same
 * selection always gives the same rows.
 *
 * @param selectedIds [numTokens, k]
 * @param logicalToPhysical for merged checkpoints: the expert that runs for each selectable one
 */
export function assignExperts(
  selectedIds: Int32Array,
  numTokens: number,
  k: number,
  numExperts: number,
  logicalToPhysical: readonly number[] | null = null,
): AssignmentFeeds {
  const slots = numTokens * k;
  const expertOf = (slot: number) => {
    const id = selectedIds[slot]!;
    return logicalToPhysical === null ? id : logicalToPhysical[id]!;
  };
  const counts = new Int32Array(numExperts);
  for (let slot = 0; slot < slots; slot++) counts[expertOf(slot)]!++;
  const next = new Int32Array(numExperts);
  for (let e = 1; e < numExperts; e++) next[e] = next[e - 1]! + counts[e - 1]!;

  const tokenOfRow = new Int32Array(slots);
  const slotOfRow = new Int32Array(slots);
  const rowOfSlot = new Int32Array(slots);
  for (let token = 0, slot = 0; token < numTokens; token++) {
    for (let j = 0; j < k; j++, slot++) {
      const row = next[expertOf(slot)]!++;
      tokenOfRow[row] = token;
      slotOfRow[row] = slot;
      rowOfSlot[slot] = row;
    }
  }
  const int32 = (data: Int32Array, shape: readonly number[]): Tensor => ({ type: "int32", shape, data });
  return {
    tokenOfRow: int32(tokenOfRow, [slots]),
    slotOfRow: int32(slotOfRow, [slots]),
    rowOfSlot: int32(rowOfSlot, [slots]),
    splitSizes: { type: "int64", shape: [numExperts], data: BigInt64Array.from(counts, BigInt) },
    selectedIds: int32(selectedIds, [numTokens, k]),
  };
}
