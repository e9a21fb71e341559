import type { Value } from "../graph";
import type { RotaryInputs } from "./rotary";

/** Inputs that every attention block shares. */
export interface AttentionInputs {
  /** Tokens of each sequence; the block's rows are B such sequences one after another. */
  sequenceLength: number;
  rotary: RotaryInputs | null;
  /** [S, S] added to the scores: 0 where a query (row) may see a key (column), very negative elsewhere. */
  mask: Value;
}

/** Queries, keys and values by head. Scores are the sum over `parts` of query key^T; queries hold the scale already. */
export interface AttentionHeads {
  parts: { /** [B, groups, heads a group, S, D] */ query: Value; /** [B, groups or 1, D, S] */ keyTransposed: Value }[];
  /** [B, groups, S, V] */
  value: Value;
  groups: number;
}
