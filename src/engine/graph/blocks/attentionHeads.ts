import type { PositionScale } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";
import type { AttentionPast } from "./attentionPast";
import { stretchByPosition, type RotaryInputs } from "./rotary";

/** Inputs that every attention block shares. */
export interface AttentionInputs {
  /**
   * Tokens of each sequence; the block's rows are B such sequences one after another. Beside a past, softmax attention
   * takes any number, given when the graph runs.
   */
  sequenceLength: number;
  rotary: RotaryInputs | null;
  /**
   * Added to the scores: 0 where a query may see a key, very negative elsewhere. [S, S], a query a row; beside a past
   * [B, 1, 1, S, N], the S new keys before the P earlier ones.
   */
  mask: Value;
  /** What the tokens before these left; absent: the sequences begin with these. */
  past?: AttentionPast;
}

/** Queries, keys and values by head. Scores are the sum over `parts` of query key^T; queries hold the scale already. */
export interface AttentionHeads {
  parts: { /** [B, groups, heads a group, S, D] */ query: Value; /** [B, groups or 1, S, D] */ key: Value }[];
  /** [B, groups, S, V] */
  value: Value;
  groups: number;
}

/** Rows [T, W] as [B, S, ...rest]. */
export function bySequence(
  builder: GraphBuilder,
  rows: Value,
  { sequenceLength, past }: Pick<AttentionInputs, "sequenceLength" | "past">,
  rest: readonly number[],
): Value {
  if (past === undefined) return builder.reshape(rows, ["B", sequenceLength, ...rest]);
  const sizes = builder.concat([builder.int64Constant([-1]), past.queryLength, builder.int64Constant(rest)], 0);
  return builder.append("Reshape", [rows, sizes], {}, rows.type, ["B", "S", ...rest]);
}

/** Queries [B, heads, S, D] times the number that their position stands for. */
export function stretched(
  builder: GraphBuilder,
  queries: Value,
  scale: PositionScale | null,
  { past }: AttentionInputs,
): Value {
  if (past === undefined || scale === null) return stretchByPosition(builder, queries, scale);
  return builder.mul(queries, past.stretch);
}
