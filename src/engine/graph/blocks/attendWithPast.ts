import type { GroupedQueryAttention } from "../../model/description";
import type { Dim, Value } from "../graph";
import type { AttentionInputs } from "./attentionHeads";
import type { AttentionPast, Extended } from "./attentionPast";
import type { BlockWeights } from "./weights";

/**
 * Attention of new queries to new keys and those of the past, which are not copied together: two products, one softmax.
 * Slots of the past that hold nothing are masked; they add exact zeros, so results do not depend on how many there are.
 *
 * @returns [T, heads * V]
 */
export function attendWithPast(
  weights: BlockWeights,
  heads: { parts: readonly { query: Value; key: Extended }[]; value: Extended; groups: number },
  { mask, past }: AttentionInputs & { past: AttentionPast },
  { sinks, softcap }: Pick<GroupedQueryAttention, "sinks" | "softcap">,
): Value {
  const { builder } = weights;
  const { parts, value, groups } = heads;
  const perGroup = parts[0]!.query.shape[2] as number;
  const valueDim = value.fresh.shape[3] as number;
  const int64 = (numbers: readonly number[]) => builder.int64Constant(numbers);
  const reshape = (a: Value, sizes: readonly Value[], shape: readonly Dim[]) =>
    builder.append("Reshape", [a, builder.concat(sizes, 0)], {}, a.type, shape);
  const products = parts
    .map(({ query, key }) => {
      // Query heads of one key-value head are stacked into one matrix, so keys are never repeated.
      const stacked = builder.reshape(query, ["B", groups, "R", query.shape[4]!]);
      const product = (keys: Value) => builder.matMul(stacked, keys, false, true);
      return builder.concat([product(key.fresh), product(key.past)], 3, "N");
    })
    .reduce((sum, part) => builder.add(sum, part));
  const scores =
    softcap === undefined ? products : builder.scale(builder.tanh(builder.scale(products, 1 / softcap)), softcap);
  const byQuery = reshape(
    scores,
    [int64([0, groups, perGroup]), past.queryLength, int64([-1])],
    ["B", groups, perGroup, "S", "N"],
  );
  const masked = builder.add(byQuery, mask);
  const shares = sinks === null ? builder.softmax(masked) : softmaxBesideSinks(weights, masked, sinks);
  const flat = reshape(shares, [int64([0, groups, -1]), past.keyCount], ["B", groups, "R", "N"]);
  const [ofFresh, ofPast] = builder.splitRows(flat, past.keySizes, ["S", "P"], 3);
  const mixed = builder.add(builder.matMul(ofFresh!, value.fresh), builder.matMul(ofPast!, value.past));
  const byHead = reshape(
    mixed,
    [int64([0, groups, perGroup]), past.queryLength, int64([valueDim])],
    ["B", groups, perGroup, "S", valueDim],
  );
  return builder.reshape(builder.transpose(byHead, [0, 3, 1, 2, 4]), ["T", groups * perGroup * valueDim]);
}

/** As in the full sequence, with the sink before the scores, whose number is not known here. */
function softmaxBesideSinks(
  weights: BlockWeights,
  scores: Value,
  sinks: NonNullable<GroupedQueryAttention["sinks"]>,
): Value {
  const { builder } = weights;
  const [, groups, perGroup] = scores.shape as [string, number, number];
  const column = builder.slice(scores, 4, 0, 1);
  const sink = builder.expandLike(builder.reshape(weights.float(sinks), [groups, perGroup, 1, 1]), column);
  const shares = builder.softmax(builder.concat([sink, scores], 4));
  return builder.append("Slice", [shares], { axis: 4, start: 1, end: 2 ** 31 - 1, step: 1 }, shares.type, scores.shape);
}
