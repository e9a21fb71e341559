import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** The smallest amount worth a collection of everything. */
const leastBytes = 32 * 2 ** 20;

/** Bytes of large arrays that may lie about as garbage before they are collected: part of every memory plan. */
export function garbageAllowance(memoryBudgetBytes: number): number {
  return Math.max(leastBytes, Math.min(512 * 2 ** 20, memoryBudgetBytes / 16));
}

/** Collections of young objects, each after this part of the allowance, of which one is of everything. */
export const minorsPerFull = 4;
let allocated = 0;
let minors = 0;

/**
 * Says that `bytes` of large arrays were just made. V8 sees only the small objects in front of them and lets gigabytes
 * of finished results wait, so it is asked for a collection: of young objects (0.5 ms, finds nearly all of them) four
 * times an allowance, of all once an allowance (about 10 ms).
 */
export function noteAllocation(bytes: number, allowance: number = leastBytes): void {
  allocated += bytes;
  if (allocated < allowance / minorsPerFull) return;
  allocated = 0;
  minors = (minors + 1) % minorsPerFull;
  collect?.(minors === 0 ? undefined : { type: "minor" });
}

const collect = collector();

/** V8's own collection; null in hosts that do not give it. */
function collector(): ((options?: { type: "minor" }) => void) | null {
  try {
    setFlagsFromString("--expose-gc");
    const collectAll: unknown = runInNewContext("gc");
    return typeof collectAll === "function" ? (collectAll as NonNullable<typeof collect>) : null;
  } catch {
    return null;
  }
}
