import type { GraphBuilder } from "../graph/builder";
import type { Node, Value } from "../graph/graph";
import { broadcastAxes } from "../graph/shape";

/** Undoes broadcasting: sums the gradient over the axes that `target` was stretched along. */
export function sumTo(builder: GraphBuilder, gradient: Value, target: Value): Value {
  const { added, stretched } = broadcastAxes(gradient.shape, target.shape);
  const kept = builder.reduceSum(gradient, stretched, true);
  return builder.reduceSum(
    kept,
    Array.from({ length: added }, (_, i) => i),
  );
}

/** Gives a reduced value its reduced axes back, with size 1. */
export function restoreAxes(
  builder: GraphBuilder,
  reduced: Value,
  node: Node<"ReduceSum" | "ReduceMean" | "ReduceMax">,
): Value {
  const { axes, keepDims } = node.attributes;
  if (keepDims) return reduced;
  return builder.unsqueeze(reduced, axes);
}

export function zerosLike(builder: GraphBuilder, value: Value): Value {
  return builder.expandLike(builder.constant([0]), value);
}

/** dy with step - 1 zeros after each element along the axis, the last ones cut. */
export function interleaveZeros(builder: GraphBuilder, dy: Value, axis: number, step: number): Value {
  const length = dy.shape[axis] as number;
  const padded = builder.pad(builder.unsqueeze(dy, [axis + 1]), axis + 1, 0, step - 1);
  const merged = dy.shape.map((dim, i) => (i === axis ? length * step : dim));
  return builder.slice(builder.reshape(padded, merged), axis, 0, (length - 1) * step + 1);
}
