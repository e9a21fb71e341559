import type { TensorRow } from "../../src/protocol/checkpointSummary";

export const tensorColumns = ["name", "shape", "dtype", "bytes", "shard"] as const;
export type TensorColumn = (typeof tensorColumns)[number];

export interface Ordering {
  column: TensorColumn;
  descending: boolean;
}

const collator = new Intl.Collator("en", { numeric: true });

/** Number of elements. */
export function elementsOf({ shape }: TensorRow): number {
  return shape.reduce((product, size) => product * size, 1);
}

/**
 * Indices of the rows whose name, dtype or shard holds every word of `filter`, sorted. Names sort with numbers in order
 * (layer 2 before layer 10), shapes by their number of elements; equal ones keep the file's order.
 */
export function arrangeRows(rows: readonly TensorRow[], filter: string, ordering: Ordering | null): Uint32Array {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const kept: number[] = [];
  for (let i = 0; i < rows.length; i++) {
    const { name, dtype, shard } = rows[i]!;
    const text = words.length === 0 ? "" : `${name}\n${dtype}\n${shard}`.toLowerCase();
    if (words.every((word) => text.includes(word))) kept.push(i);
  }
  if (ordering) {
    const sign = ordering.descending ? -1 : 1;
    const compare = comparison(rows, ordering.column);
    kept.sort((a, b) => sign * compare(a, b) || a - b);
  }
  return Uint32Array.from(kept);
}

function comparison(rows: readonly TensorRow[], column: TensorColumn): (a: number, b: number) => number {
  if (column === "bytes") return (a, b) => rows[a]!.bytes - rows[b]!.bytes;
  if (column === "shape") {
    const sizes = rows.map(elementsOf);
    return (a, b) => sizes[a]! - sizes[b]!;
  }
  return (a, b) => collator.compare(rows[a]![column], rows[b]![column]);
}
