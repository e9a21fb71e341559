import type { GraphBuilder } from "../graph/builder";
import type { Node, Value } from "../graph/graph";
import { sumTo } from "./gradientShapes";

/** Of the scales that integers are decoded with: the sum of dy times the codes of each scale. */
export function scaleGradient(
  builder: GraphBuilder,
  { inputs, attributes }: Node<"DequantizeLinear">,
  dy: Value,
): Value {
  const [codes, scales, zeros] = inputs as [Value, Value, Value?];
  const { axis, block } = attributes;
  const others = codes.shape.map((_, i) => i).filter((i) => i !== axis);
  const ones = builder.expandLike(builder.constant([1]), scales);
  // The codes less their zeros are what they decode to with scales of 1.
  const plain = builder.dequantizeLinear(codes, ones, zeros ?? null, axis, block);
  const terms = builder.mul(dy, plain);
  if (block === 0) return builder.reduceSum(terms, others);
  const size = codes.shape[axis] as number;
  const groups = Math.ceil(size / block);
  const padded = groups * block === size ? terms : builder.pad(terms, axis, 0, groups * block - size);
  const split = [...codes.shape.slice(0, axis), groups, block, ...codes.shape.slice(axis + 1)];
  return builder.reduceSum(builder.reshape(padded, split), [axis + 1]);
}

/** dB of Y = op(A) op(B). Where B is one matrix for a whole batch, the batch is flattened into rows first. */
export function matMulRightGradient(builder: GraphBuilder, { inputs, attributes }: Node<"MatMul">, dy: Value): Value {
  const [a, b] = inputs as [Value, Value];
  const { transA, transB } = attributes;
  const widthsKnown = typeof a.shape.at(-1) === "number" && typeof dy.shape.at(-1) === "number";
  if (b.shape.length > 2 || a.shape.length === 2 || !widthsKnown || transA || transB) {
    const gradient = transB ? builder.matMul(dy, a, true, transA) : builder.matMul(a, dy, !transA, false);
    return sumTo(builder, gradient, b);
  }
  const rows = `(${a.shape.slice(0, -1).join("*")})`;
  const flatA = builder.reshape(a, [rows, a.shape.at(-1)!]);
  const flatDy = builder.reshape(dy, [rows, dy.shape.at(-1)!]);
  return builder.gemm(flatA, flatDy, true, false);
}
