import type { PositionScale, RotaryDescription } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";

/** Tables of one sequence's positions, [S, dims / 2] each. */
export interface RotaryInputs {
  cos: Value;
  sin: Value;
  description: RotaryDescription;
}

/**
 * Rotates the first `dims` of each head of x [B, heads, S, D] by its position (RoPE, arXiv 2104.09864). Interleaved pairs
 * come out as two halves, for queries and keys alike, which leaves their products as they are.
 */
export function rotate(
  builder: GraphBuilder,
  x: Value,
  { cos, sin, description: { dims, pairing } }: RotaryInputs,
): Value {
  const headDim = x.shape[3] as number;
  // The tables of a decoding step differ by sequence, and have an axis for that.
  if (pairing === "half" && cos.shape.length === 2) return builder.rotaryEmbedding(x, cos, sin);
  const half = dims / 2;
  const [first, second] =
    pairing === "half"
      ? [builder.slice(x, 3, 0, half), builder.slice(x, 3, half, dims)]
      : [builder.slice(x, 3, 0, dims, 2), builder.slice(x, 3, 1, dims, 2)];
  const rotated = [
    builder.sub(builder.mul(first, cos), builder.mul(second, sin)),
    builder.add(builder.mul(second, cos), builder.mul(first, sin)),
  ];
  const rest = dims < headDim ? [builder.slice(x, 3, dims, headDim)] : [];
  return builder.concat([...rotated, ...rest], 3);
}

/** Queries [B, heads, S, D] times the number that their position stands for. Rotations keep lengths, so before or after one. */
export function stretchByPosition(builder: GraphBuilder, queries: Value, scale: PositionScale | null): Value {
  if (scale === null) return queries;
  const { coefficient, period, offset } = scale;
  const factors = Array.from(
    { length: queries.shape[2] as number },
    (_, position) => 1 + coefficient * Math.log1p(Math.floor((position + offset) / period)),
  );
  if (factors.every((factor) => factor === 1)) return queries;
  return builder.mul(queries, builder.constant(factors, [factors.length, 1]));
}
