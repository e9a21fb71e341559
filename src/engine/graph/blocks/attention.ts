import type { AttentionDescription, GroupedQueryAttention, NormDescription } from "../../model/description";
import type { Value } from "../graph";
import { latentScores } from "./latentAttention";
import { rotate, type RotaryInputs } from "./rotary";
import type { BlockWeights } from "./weights";

/** Inputs that every attention block shares. */
export interface AttentionInputs {
  /** Tokens of each sequence; the block's rows are B such sequences one after another. */
  sequenceLength: number;
  rotary: RotaryInputs | null;
  /** [S, S] added to the scores: 0 where a query (row) may see a key (column), very negative elsewhere. */
  mask: Value;
}

/** Causal self-attention over normalised rows x [T, H]; returns [T, H]. */
export function attention(
  weights: BlockWeights,
  x: Value,
  description: AttentionDescription,
  inputs: AttentionInputs,
): Value {
  const { builder } = weights;
  const { numHeads, output } = description;
  const s = inputs.sequenceLength;
  const { scores, value, groups, sinks } =
    description.kind === "latent"
      ? { ...latentScores(weights, x, description, inputs), groups: numHeads, sinks: null }
      : groupedScores(weights, x, description, inputs);
  const perGroup = numHeads / groups;
  // [B, groups, heads a group, S, S]
  const masked = builder.add(builder.reshape(scores, ["B", groups, perGroup, s, s]), inputs.mask);
  const probabilities =
    sinks === null ? builder.softmax(masked) : softmaxWithSinks(weights, masked, sinks, groups, perGroup);
  const mixed = builder.matMul(builder.reshape(probabilities, ["B", groups, perGroup * s, s]), value);
  const valueDim = value.shape[3] as number;
  const heads = builder.transpose(builder.reshape(mixed, ["B", numHeads, s, valueDim]), [0, 2, 1, 3]);
  return weights.linear(builder.reshape(heads, ["T", numHeads * valueDim]), output);
}

/** Scores [B, groups, heads a group * S, S] and values [B, groups, S, D] of multi-head, grouped or multi-query attention. */
function groupedScores(weights: BlockWeights, x: Value, attention: GroupedQueryAttention, inputs: AttentionInputs) {
  const { builder } = weights;
  const { numHeads, numKeyValueHeads, headDim, clip, normAfterRotary } = attention;
  const s = inputs.sequenceLength;
  const project = (linear: GroupedQueryAttention["query"], norm: NormDescription | null, heads: number) => {
    const projected = weights.linear(x, linear);
    const wholeNorm = norm !== null && attention.normScope === "projection" ? weights.norm(projected, norm) : projected;
    const clipped = clip === null ? wholeNorm : builder.clip(wholeNorm, -clip, clip);
    const perHead = builder.reshape(clipped, ["B", s, heads, headDim]);
    const normed =
      norm !== null && attention.normScope === "head" && !normAfterRotary ? weights.norm(perHead, norm) : perHead;
    return builder.transpose(normed, [0, 2, 1, 3]);
  };
  const positioned = (heads: Value, norm: NormDescription | null) => {
    const rotated = inputs.rotary === null ? heads : rotate(builder, heads, inputs.rotary);
    return norm !== null && normAfterRotary ? weights.norm(rotated, norm) : rotated;
  };
  const query = positioned(project(attention.query, attention.queryNorm, numHeads), attention.queryNorm);
  const key = positioned(project(attention.key, attention.keyNorm, numKeyValueHeads), attention.keyNorm);
  const value = project(attention.value, null, numKeyValueHeads);
  // Query heads of one key-value head are stacked into one matrix, so keys are never repeated.
  // The scale goes to the queries: scores are S / D times as many numbers.
  const scaled = builder.scale(query, attention.scale);
  const stacked = builder.reshape(scaled, ["B", numKeyValueHeads, (numHeads / numKeyValueHeads) * s, headDim]);
  const scores = builder.matMul(stacked, builder.transpose(key, [0, 1, 3, 2]));
  return { scores, value, groups: numKeyValueHeads, sinks: attention.sinks };
}

/** gpt-oss: one learned score a head joins the softmax and is dropped after it, so the rest sums to less than 1. */
function softmaxWithSinks(
  weights: BlockWeights,
  scores: Value,
  sinks: NonNullable<GroupedQueryAttention["sinks"]>,
  groups: number,
  perGroup: number,
): Value {
  const { builder } = weights;
  const s = scores.shape[4] as number;
  const zeros = builder.mul(builder.slice(scores, 4, 0, 1), builder.constant([0]));
  const sink = builder.add(zeros, builder.reshape(weights.float(sinks), [groups, perGroup, 1, 1]));
  return builder.slice(builder.softmax(builder.concat([scores, sink], 4)), 4, 0, s);
}
