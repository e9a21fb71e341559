import type {
  AttentionDescription,
  GroupedQueryAttention,
  NormDescription,
  SoftmaxAttention,
} from "../../model/description";
import type { Value } from "../graph";
import { bySequence, stretched, type AttentionHeads, type AttentionInputs } from "./attentionHeads";
import { attendWithPast } from "./attendWithPast";
import { shortConv } from "./causalConv";
import { gatedDelta } from "./gatedDelta";
import { latentHeads, latentWithPast } from "./latentAttention";
import { rotate } from "./rotary";
import type { BlockWeights } from "./weights";

/** What mixes the tokens of each sequence, over normalised rows x [T, H]; returns [T, H]. No token sees a later one. */
export function attention(
  weights: BlockWeights,
  x: Value,
  description: AttentionDescription,
  inputs: AttentionInputs,
): Value {
  switch (description.kind) {
    case "gated-delta":
      return gatedDelta(weights, x, description, inputs);
    case "short-conv":
      return shortConv(weights, x, description, inputs);
    default:
      return inputs.past === undefined
        ? softmaxAttention(weights, x, description, inputs)
        : softmaxAttentionWithPast(weights, x, description, { ...inputs, past: inputs.past });
  }
}

/** The same over keys and values of earlier tokens too, for any number of new tokens a sequence. */
function softmaxAttentionWithPast(
  weights: BlockWeights,
  x: Value,
  description: SoftmaxAttention,
  inputs: AttentionInputs & Required<Pick<AttentionInputs, "past">>,
): Value {
  const { builder } = weights;
  if (description.kind === "latent")
    return weights.linear(latentWithPast(weights, x, description, inputs), description.output);
  const { heads, gate } = groupedHeads(weights, x, description, inputs);
  const { past } = inputs;
  const value = past.extend("value", heads.value);
  const parts = heads.parts.map(({ query, key }) => ({ query, key: past.extend("key", key) }));
  const mixed = attendWithPast(weights, { parts, value, groups: heads.groups }, inputs, description);
  return weights.linear(gate === null ? mixed : builder.mul(mixed, builder.sigmoid(gate)), description.output);
}

function softmaxAttention(
  weights: BlockWeights,
  x: Value,
  description: SoftmaxAttention,
  inputs: AttentionInputs,
): Value {
  const { builder } = weights;
  const { numHeads, output } = description;
  const { heads, gate } =
    description.kind === "latent"
      ? { heads: latentHeads(weights, x, description, inputs), gate: null }
      : groupedHeads(weights, x, description, inputs);
  const { sinks, softcap } = description.kind === "latent" ? { sinks: null } : description;
  const ranges = queryBlocks(inputs.sequenceLength, description);
  const sizes = ranges.map(({ from, to }) => to - from);
  const keys = heads.parts.map(({ key }) => builder.transpose(key, [0, 1, 3, 2]));
  // Split, not sliced: the gradient of a split is one concatenation.
  const queries = heads.parts.map(({ query }) => (sizes.length === 1 ? [query] : builder.split(query, sizes, 3)));
  const blocks = ranges.map((range, i) => {
    const parts = keys.map((keyTransposed, p) => ({ query: queries[p]![i]!, keyTransposed }));
    return attendBlock(weights, parts, heads, numHeads / heads.groups, inputs.mask, range, { sinks, softcap });
  });
  const valueDim = heads.value.shape[3] as number;
  // [B, groups, heads a group, S, V] -> [B, S, groups, heads a group, V]
  const mixed = builder.reshape(builder.transpose(builder.concat(blocks, 3), [0, 3, 1, 2, 4]), [
    "T",
    numHeads * valueDim,
  ]);
  return weights.linear(gate === null ? mixed : builder.mul(mixed, builder.sigmoid(gate)), output);
}

/** Queries [from, to), which see keys [firstKey, to). */
interface QueryBlock {
  from: number;
  to: number;
  firstKey: number;
}

/**
 * Cuts the queries into up to four blocks, so that most of the scores that the causal mask (or a window or chunk) hides
 * are never computed: 10/16 of the full square is left.
 */
function queryBlocks(s: number, { slidingWindow, chunk = s }: SoftmaxAttention): QueryBlock[] {
  const count = queryBlockCount(s);
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor((i * s) / count);
    const to = Math.floor(((i + 1) * s) / count);
    const firstNear = slidingWindow === null ? 0 : from - slidingWindow + 1;
    return { from, to, firstKey: Math.max(0, firstNear, from - (from % chunk)) };
  });
}

/** Blocks that queries of a sequence of `s` tokens are cut into: a forward pass holds the scores of one at a time. */
export function queryBlockCount(s: number): number {
  return Math.max(1, Math.min(4, Math.floor(s / 64)));
}

/** Queries of one block against the keys it sees: [B, groups, heads a group, to - from, V]. */
function attendBlock(
  weights: BlockWeights,
  parts: readonly { query: Value; keyTransposed: Value }[],
  { value, groups }: AttentionHeads,
  perGroup: number,
  mask: Value,
  { from, to, firstKey }: QueryBlock,
  { sinks, softcap }: Pick<GroupedQueryAttention, "sinks"> & { softcap?: number | undefined },
): Value {
  const { builder } = weights;
  const rows = to - from;
  const keys = to - firstKey;
  const products = parts
    .map(({ query, keyTransposed }) => {
      const queryDim = query.shape[4] as number;
      // Query heads of one key-value head are stacked into one matrix, so keys are never repeated.
      const stacked = builder.reshape(query, ["B", groups, perGroup * rows, queryDim]);
      return builder.matMul(stacked, builder.slice(keyTransposed, 3, firstKey, to));
    })
    .reduce((sum, part) => builder.add(sum, part));
  const scores =
    softcap === undefined ? products : builder.scale(builder.tanh(builder.scale(products, 1 / softcap)), softcap);
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

/** Heads of multi-head, grouped or multi-query attention, and the gate of its output before the sigmoid. */
function groupedHeads(
  weights: BlockWeights,
  x: Value,
  attention: GroupedQueryAttention,
  inputs: AttentionInputs,
): { heads: AttentionHeads; gate: Value | null } {
  const { builder } = weights;
  const { numHeads, numKeyValueHeads: groups, headDim, valueHeadDim, clip, normAfterRotary } = attention;
  const { queries, gate } = queriesAndGate(weights, x, attention);
  const keys = weights.linear(x, attention.key);
  const values = attention.value === "key" ? keys : weights.linear(x, attention.value);
  const shape = (projected: Value, norm: NormDescription | null, heads: number, dim = headDim) => {
    const wholeNorm = norm !== null && attention.normScope === "projection" ? weights.norm(projected, norm) : projected;
    const clipped = clip === null ? wholeNorm : builder.clip(wholeNorm, -clip, clip);
    const perHead = bySequence(builder, clipped, inputs, [heads, dim]);
    const normed =
      norm !== null && attention.normScope === "head" && !normAfterRotary ? weights.norm(perHead, norm) : perHead;
    return builder.transpose(normed, [0, 2, 1, 3]);
  };
  const positioned = (heads: Value, norm: NormDescription | null) => {
    const rotated = inputs.rotary === null ? heads : rotate(builder, heads, inputs.rotary);
    return norm !== null && normAfterRotary ? weights.norm(rotated, norm) : rotated;
  };
  const query = positioned(shape(queries, attention.queryNorm, numHeads), attention.queryNorm);
  const key = positioned(shape(keys, attention.keyNorm, groups), attention.keyNorm);
  // The scale goes to the queries: scores are many more numbers.
  const long = stretched(builder, builder.scale(query, attention.scale), attention.positionScale, inputs);
  const scaled = builder.reshape(long, ["B", groups, numHeads / groups, long.shape[2]!, headDim]);
  const clippedValue = shape(values, null, groups, valueHeadDim);
  const heads = {
    parts: [{ query: scaled, key }],
    value: builder.scale(weights.norm(clippedValue, attention.valueNorm ?? null), attention.valueScale),
    groups,
  };
  return { heads, gate };
}

/** Projected queries and output gate, [T, heads * D] each. */
function queriesAndGate(
  weights: BlockWeights,
  x: Value,
  { query, outputGate, numHeads, headDim }: GroupedQueryAttention,
) {
  const { builder } = weights;
  const projected = weights.linear(x, query);
  if (outputGate !== "in-query")
    return { queries: projected, gate: outputGate === null ? null : weights.linear(x, outputGate) };
  const [queries, gate] = builder.split(
    builder.reshape(projected, ["T", numHeads, 2 * headDim]),
    [headDim, headDim],
    2,
  );
  const flat = (part: Value) => builder.reshape(part, ["T", numHeads * headDim]);
  return { queries: flat(queries!), gate: flat(gate!) };
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
