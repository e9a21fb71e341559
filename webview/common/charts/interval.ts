/**
 * Where an error bar ends below: not under the least value that there can be, and on a logarithmic axis, which has no place for 0 and
 * less, not under half the value.
 */
export function intervalLow(
  y: number,
  halfWidth: number | null,
  { min, log }: { min?: number; log?: boolean },
): number {
  const low = Math.max(min ?? -Infinity, y - (halfWidth ?? 0));
  return log === true ? Math.max(low, y / 2) : low;
}
