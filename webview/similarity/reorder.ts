/** The matrix with rows and columns in `order`: position p holds expert order[p]. */
export function reorder(values: readonly (number | null)[], order: readonly number[]): (number | null)[] {
  const n = order.length;
  const result = new Array<number | null>(n * n);
  for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) result[r * n + c] = values[order[r]! * n + order[c]!] ?? null;
  return result;
}

/** Positions of experts in `order`. */
export function positionsOf(experts: readonly number[], order: readonly number[]): number[] {
  return experts.map((expert) => order.indexOf(expert)).filter((position) => position >= 0);
}

/** True if `order` names each of 0..n-1 once. */
export function isPermutation(order: readonly number[], n: number): boolean {
  return order.length === n && new Set(order).size === n && order.every((i) => Number.isInteger(i) && i >= 0 && i < n);
}
