import type { Dim, Shape, Value } from "./graph";

/** The shape of an elementwise result of both shapes, by ONNX's (NumPy's) broadcasting. */
export function broadcastShapes(a: Shape, b: Shape): Dim[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const dimA = a[i - rank + a.length] ?? 1;
    const dimB = b[i - rank + b.length] ?? 1;
    if (dimA === 1) return dimB;
    if (dimB === 1 || sameDim(dimA, dimB)) return dimA;
    throw new Error(`shapes [${a.join(", ")}] and [${b.join(", ")}] do not broadcast`);
  });
}

export function sameDim(a: Dim, b: Dim): boolean {
  return a === b;
}

/** Axes of `from` that were added or stretched to reach it from `to`. */
export function broadcastAxes(from: Shape, to: Shape): { added: number; stretched: number[] } {
  const added = from.length - to.length;
  const stretched = to.flatMap((dim, i) => (dim === 1 && from[i + added] !== 1 ? [i + added] : []));
  return { added, stretched };
}

/** The axis counted from the front. */
export function normaliseAxis(axis: number, a: Value): number {
  const at = axis < 0 ? axis + a.shape.length : axis;
  if (at < 0 || at >= a.shape.length) throw new Error(`axis ${axis} of a value of shape [${a.shape.join(", ")}]`);
  return at;
}

/** Sizes of the last two axes, the last one first. */
export function swapped({ shape }: Value): Dim[] {
  return shape.slice(-2).reverse();
}

/** Size of the axis that the parts are joined along; where one is known only when the graph runs, the sum's name. */
export function sumOfDims(parts: readonly Value[], axis: number): Dim {
  const sizes = parts.map((part) => part.shape.at(axis)!);
  const fixed = sizes.filter((size) => typeof size === "number");
  return fixed.length === sizes.length ? fixed.reduce((sum, size) => sum + size, 0) : `(${sizes.join("+")})`;
}

export function shapeError(op: string, a: Value, b: Value): Error {
  return new Error(`${op}: shapes [${a.shape.join(", ")}] and [${b.shape.join(", ")}] do not fit`);
}
