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

/**
 * The rows of a group's experts as its graph takes them. An expert with a single row gets it twice: onnxruntime has a
 * product of its own for one row, which adds in another order (MlasSgemm with M = 1), and an expert's numbers would depend
 * on how many tokens came along.
 */
export interface GroupRows {
  /** Rows of the chunk [first, end) that are the group's, and how many its graph takes. */
  first: number;
  end: number;
  count: number;
  feeds: Record<"tokenOfRow" | "splitSizes", Tensor>;
  /** [count] the chunk's row of each of them, -1 for a second one; null: they are those from `first` on. */
  rowOf: Int32Array | null;
}

export function groupRows(
  { tokenOfRow, firstRow }: Pick<Assignment, "tokenOfRow" | "firstRow">,
  { from, to }: ExpertGroup,
): GroupRows {
  const [first, end] = [firstRow[from]!, firstRow[to]!];
  const counts = Array.from({ length: to - from }, (_, i) => firstRow[from + i + 1]! - firstRow[from + i]!);
  const splitSizes = (sizes: number[]): Tensor => ({
    type: "int64",
    shape: [sizes.length],
    data: BigInt64Array.from(sizes, BigInt),
  });
  const singles = counts.filter((count) => count === 1).length;
  const count = end - first + singles;
  if (singles === 0) {
    const feeds = { tokenOfRow: int32(tokenOfRow.subarray(first, end)), splitSizes: splitSizes(counts) };
    return { first, end, count, feeds, rowOf: null };
  }
  const rowOf = new Int32Array(count);
  const tokens = new Int32Array(count);
  let [at, row] = [0, first];
  for (const rows of counts) {
    for (let i = 0; i < rows; i++, at++, row++) [rowOf[at], tokens[at]] = [row, tokenOfRow[row]!];
    if (rows === 1) [rowOf[at], tokens[at++]] = [-1, tokenOfRow[row - 1]!];
  }
  const sizes = counts.map((rows) => (rows === 1 ? 2 : rows));
  return { first, end, count, feeds: { tokenOfRow: int32(tokens), splitSizes: splitSizes(sizes) }, rowOf };
}

/** A number of each of the chunk's rows, [R], as the group's graph takes it; 0 for second rows, so that they count nowhere. */
export function groupColumn({ first, end, rowOf, count }: GroupRows, column: Float32Array): Tensor {
  if (rowOf === null) return { type: "float32", shape: [count, 1], data: column.subarray(first, end) };
  const data = new Float32Array(count);
  for (let i = 0; i < count; i++) if (rowOf[i]! >= 0) data[i] = column[rowOf[i]!]!;
  return { type: "float32", shape: [count, 1], data };
}

/** Where a group's graph writes what the chunk has for each row, [R, width]; with `keep`, then at its place. */
export function groupTarget({ first, end, rowOf, count }: GroupRows, all: Float32Array, width: number) {
  const data = rowOf === null ? all.subarray(first * width, end * width) : new Float32Array(count * width);
  const tensor: Tensor = { type: "float32", shape: [count, width], data };
  const keep = () => {
    if (rowOf === null) return;
    // Rows follow each other but where a second one lies between.
    for (let i = 0, next: number; i < count; i = next) {
      for (next = i + 1; next < count && rowOf[next]! >= 0; next++);
      const row = rowOf[i]!;
      const from = row < 0 ? i + 1 : i;
      if (from < next) all.set(data.subarray(from * width, next * width), rowOf[from]! * width);
    }
  };
  return { tensor, keep };
}

function int32(data: Int32Array): Tensor {
  return { type: "int32", shape: [data.length], data };
}
