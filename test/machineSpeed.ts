/**
 * How much slower this machine is now than the one that the limits of rendering and activation were set for (2 cores of
 * a small cloud machine, idle): from 1 to `mostSlowdown`. Limits are multiplied by it, so that a busy machine fails nothing.
 */
export function slowdown(): number {
  return Math.min(mostSlowdown, Math.max(1, Math.min(...Array.from({ length: 7 }, measure)) / idleMs));
}

/** Beyond this a limit would let a regression of as many times through. */
export const mostSlowdown = 2;

/**
 * Whether what took too long says nothing, because the machine was at the bound when it was measured: the test is then skipped with
 * this reason.
 */
export function tooBusy(slower: readonly number[]): boolean {
  return slower.some((ratio) => ratio >= mostSlowdown);
}
export const busyReason = `the machine is ${mostSlowdown} times slower than idle or more: nothing was measured`;

/** Milliseconds of `measure` on the idle reference machine. */
const idleMs = 9;

/** A fixed job of parsing, sorting and arithmetic, in milliseconds. */
function measure(): number {
  const began = performance.now();
  const numbers = Array.from({ length: 40_000 }, (_, i) => (i * 2_654_435_761) % 1_000_003);
  const parsed = JSON.parse(JSON.stringify(numbers)) as number[];
  parsed.sort((a, b) => a - b);
  let sum = 0;
  for (const value of parsed) sum += Math.sqrt(value);
  if (!Number.isFinite(sum)) throw new Error("unreachable");
  return performance.now() - began;
}
