import type {
  AttentionDescription,
  GroupedQueryAttention,
  LinearDescription,
  NormDescription,
} from "../../model/description";
import type { Value } from "../graph";
import type { AttentionHeads, AttentionInputs } from "./attentionHeads";
import { latentHeads } from "./latentAttention";
import { rotate, stretchByPosition } from "./rotary";
import type { BlockWeights } from "./weights";

/** Causal self-attention over normalised rows x [T, H]; returns [T, H]. */
export function attention(
  weights: BlockWeights,
  x: Value,
  description: AttentionDescription,
  inputs: AttentionInputs,
): Value {
  const { builder } = weights;
  const { numHeads, output, slidingWindow } = description;
  const heads =
    description.kind === "latent"
      ? latentHeads(weights, x, description, inputs)
      : groupedHeads(weights, x, description, inputs);
  const sinks = description.kind === "latent" ? null : description.sinks;
  const ranges = queryBlocks(inputs.sequenceLength, slidingWindow);
  const sizes = ranges.map(({ from, to }) => to - from);
  // Split, not sliced: the gradient of a split is one concatenation.
  const queries = heads.parts.map(({ query }) => (sizes.length === 1 ? [query] : builder.split(query, sizes, 3)));
  const blocks = ranges.map((range, i) => {
    const parts = heads.parts.map(({ keyTransposed }, p) => ({ query: queries[p]![i]!, keyTransposed }));
    return attendBlock(weights, { ...heads, parts }, numHeads / heads.groups, inputs.mask, range, sinks);
  });
  const valueDim = heads.value.shape[3] as number;
  // [B, groups, heads a group, S, V] -> [B, S, groups, heads a group, V]
  const mixed = builder.reshape(builder.transpose(builder.concat(blocks, 3), [0, 3, 1, 2, 4]), [
    "T",
    numHeads * valueDim,
  ]);
  const gate = description.kind === "latent" ? null : description.outputGate;
  const gated = gate === null ? mixed : builder.mul(mixed, builder.sigmoid(weights.linear(x, gate)));
  return weights.linear(gated, output);
}

/** Queries [from, to), which see keys [firstKey, to). */
interface QueryBlock {
  from: number;
  to: number;
  firstKey: number;
}

/**
 * Cuts the queries into up to four blocks, so that most of the scores that the causal mask (or a sliding window) hides
 * are never computed: 10/16 of the full square is left.
 */
function queryBlocks(s: number, slidingWindow: number | null): QueryBlock[] {
  const count = queryBlockCount(s);
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * s) / count);
    const to = Math.floor(((i + 1) * s) / count);
    return { from, to, firstKey: slidingWindow === null ? 0 : Math.max(0, from - slidingWindow + 1) };
  });
}

/** Blocks that queries of a sequence of `s` tokens are cut into: a forward pass holds the scores of one at a time. */
export function queryBlockCount(s: number): number {
  return Math.max(1, Math.min(4, Math.floor(s / 64)));
}

/** Queries of one block against the keys it sees: [B, groups, heads a group, to - from, V]. */
function attendBlock(
  weights: BlockWeights,
  { parts, value, groups }: AttentionHeads,
  perGroup: number,
  mask: Value,
  { from, to, firstKey }: QueryBlock,
  sinks: GroupedQueryAttention["sinks"],
): Value {
  const { builder } = weights;
  const rows = to - from;
  const keys = to - firstKey;
  const scores = parts
    .map(({ query, keyTransposed }) => {
      const queryDim = query.shape[4] as number;
      // Query heads of one key-value head are stacked into one matrix, so keys are never repeated.
      const stacked = builder.reshape(query, ["B", groups, perGroup * rows, queryDim]);
      return builder.matMul(stacked, builder.slice(keyTransposed, 3, firstKey, to));
    })
    .reduce((sum, part) => builder.add(sum, part));
  const visible = builder.slice(builder.slice(mask, 0, from, to), 1, firstKey, to);
  const masked = builder.add(builder.reshape(scores, ["B", groups, perGroup, rows, keys]), visible);
  const seen = builder.slice(value, 2, firstKey, to);
  const flat = ["B", groups, perGroup * rows, keys];
  const mixed =
    sinks === null
      ? builder.softmaxMatMul(builder.reshape(masked, flat), seen)
      : builder.matMul(builder.reshape(softmaxWithSinks(weights, masked, sinks), flat), seen);
  return builder.reshape(mixed, ["B", groups, perGroup, rows, value.shape[3]!]);
}

/** Heads of multi-head, grouped or multi-query attention. */
function groupedHeads(
  weights: BlockWeights,
  x: Value,
  attention: GroupedQueryAttention,
  inputs: AttentionInputs,
): AttentionHeads {
  const { builder } = weights;
  const { numHeads, numKeyValueHeads: groups, headDim, valueHeadDim, clip, normAfterRotary } = attention;
  const s = inputs.sequenceLength;
  const project = (linear: LinearDescription, norm: NormDescription | null, heads: number, dim = headDim) => {
    const projected = weights.linear(x, linear);
    const wholeNorm = norm !== null && attention.normScope === "projection" ? weights.norm(projected, norm) : projected;
    const clipped = clip === null ? wholeNorm : builder.clip(wholeNorm, -clip, clip);
    const perHead = builder.reshape(clipped, ["B", s, heads, dim]);
    const normed =
      norm !== null && attention.normScope === "head" && !normAfterRotary ? weights.norm(perHead, norm) : perHead;
    return builder.transpose(normed, [0, 2, 1, 3]);
  };
  const positioned = (heads: Value, norm: NormDescription | null) => {
    const rotated = inputs.rotary === null ? heads : rotate(builder, heads, inputs.rotary);
    return norm !== null && normAfterRotary ? weights.norm(rotated, norm) : rotated;
  };
  const query = positioned(project(attention.query, attention.queryNorm, numHeads), attention.queryNorm);
  const key = positioned(project(attention.key, attention.keyNorm, groups), attention.keyNorm);
  // The scale goes to the queries: scores are many more numbers.
  const stretched = stretchByPosition(builder, builder.scale(query, attention.scale), attention.positionScale);
  const scaled = builder.reshape(stretched, ["B", groups, numHeads / groups, s, headDim]);
  return {
    parts: [{ query: scaled, keyTransposed: builder.transpose(key, [0, 1, 3, 2]) }],
    value: builder.scale(project(attention.value, null, groups, valueHeadDim), attention.valueScale),
    groups,
  };
}

/** gpt-oss: one learned score a head joins the softmax and is dropped after it, so the rest sums to less than 1. */
function softmaxWithSinks(
  weights: BlockWeights,
  scores: Value,
  sinks: NonNullable<GroupedQueryAttention["sinks"]>,
): Value {
  const { builder } = weights;
  const [, groups, perGroup, , keys] = scores.shape as [string, number, number, number, number];
  const column = builder.slice(scores, 4, 0, 1);
  const sink = builder.expandLike(builder.reshape(weights.float(sinks), [groups, perGroup, 1, 1]), column);
  return builder.slice(builder.softmax(builder.concat([scores, sink], 4)), 4, 0, keys);
}
