import type { GraphBuilder } from "./builder";
import type { Value } from "./graph";

/** (I + L)^-1 for L the strictly lower triangle of a [..., n, n], the rest of which is not looked at. */
export function unitLowerInverse(builder: GraphBuilder, a: Value): Value {
  const n = a.shape.at(-1) as number;
  if (n === 1) return builder.expandLike(builder.constant([1]), a);
  const masks = triangleMasks(n).map((mask) => builder.constant(mask, [n, n]));
  return builder.append("UnitLowerInverse", [a, ...masks], {}, a.type, a.shape);
}

/**
 * The identity [n, n], and one mask a level that together cut up the triangle below it: with blocks of 1, 2, 4, ... rows,
 * where the rows are those of a block and the columns those of the block before it, pairs of blocks counted from the top.
 */
function triangleMasks(n: number): number[][] {
  const matrix = (of: (row: number, column: number) => boolean) =>
    Array.from({ length: n * n }, (_, i) => (of(Math.floor(i / n), i % n) ? 1 : 0));
  const masks = [matrix((row, column) => row === column)];
  for (let size = 1; size < n; size *= 2) {
    const block = (i: number) => Math.floor(i / size);
    masks.push(matrix((row, column) => block(row) % 2 === 1 && block(row) === block(column) + 1));
  }
  return masks;
}
