import type { Dim, Shape } from "./graph";

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
