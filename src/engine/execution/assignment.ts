import type { Tensor } from "../runtime/session";
import type { ExpertGroup } from "./expertGroups";

/** Which row of which expert each (token, slot) became: rows of expert 0 first, tokens ascending inside an expert. */
export interface Assignment {
  /** [R] token of each row, with R = tokens * k. */
  tokenOfRow: Int32Array;
  /** [R] slot (token * k + j) of each row. */
  slotOfRow: Int32Array;
  /** [R] row of each slot: the inverse. */
  rowOfSlot: Int32Array;
  /** [E + 1]: the rows of expert e are those from firstRow[e] up to firstRow[e + 1]. */
  firstRow: Int32Array;
}

/**
 * Groups (token, slot) pairs by expert, so that the same selection always gives the same rows.
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
): Assignment {
  const slots = numTokens * k;
  const expertOf = (slot: number) => {
    const id = selectedIds[slot]!;
    return logicalToPhysical === null ? id : logicalToPhysical[id]!;
  };
  const firstRow = new Int32Array(numExperts + 1);
  for (let slot = 0; slot < slots; slot++) firstRow[expertOf(slot) + 1]!++;
  for (let e = 0; e < numExperts; e++) firstRow[e + 1]! += firstRow[e]!;

  const next = firstRow.slice();
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
  return { tokenOfRow, slotOfRow, rowOfSlot, firstRow };
}

/** Feeds that a routing or combine graph takes. */
export function slotFeeds({ slotOfRow, rowOfSlot }: Assignment): Record<"slotOfRow" | "rowOfSlot", Tensor> {
  return { slotOfRow: int32(slotOfRow), rowOfSlot: int32(rowOfSlot) };
}

/** Feeds that the graph of a group's rows takes: the tokens of its rows, and how many each of its experts has. */
export function groupFeeds(
  { tokenOfRow, firstRow }: Assignment,
  { from, to }: ExpertGroup,
): Record<"tokenOfRow" | "splitSizes", Tensor> {
  const counts = Array.from({ length: to - from }, (_, i) => BigInt(firstRow[from + i + 1]! - firstRow[from + i]!));
  return {
    tokenOfRow: int32(tokenOfRow.subarray(firstRow[from], firstRow[to])),
    splitSizes: { type: "int64", shape: [to - from], data: BigInt64Array.from(counts) },
  };
}

function int32(data: Int32Array): Tensor {
  return { type: "int32", shape: [data.length], data };
}
