import type { LatentAttention } from "../../model/description";
import type { Value } from "../graph";
import { bySequence, stretched, type AttentionHeads, type AttentionInputs } from "./attentionHeads";
import { attendWithPast } from "./attendWithPast";
import type { AttentionPast } from "./attentionPast";
import { rotate } from "./rotary";
import type { BlockWeights } from "./weights";

/**
 * Heads of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values come from one compressed vector a
 * token, and one rotated key is shared by all heads.
 */
export function latentHeads(
  weights: BlockWeights,
  x: Value,
  attention: LatentAttention,
  inputs: AttentionInputs,
): AttentionHeads {
  const { builder } = weights;
  const { numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = attention;
  const s = inputs.sequenceLength;
  const unscaled = toHeads(weights, queryRows(weights, x, attention), numHeads, inputs);
  const queryHeads = stretched(builder, builder.scale(unscaled, attention.scale), attention.positionScale, inputs);
  const [queryNope, queryRope] = builder.split(queryHeads, [qkNopeHeadDim, qkRopeHeadDim], 3);
  const { compressed, keyRopeRows } = compressedRows(weights, x, attention);
  const keyValue = weights.linear(weights.norm(compressed, attention.keyValueNorm), attention.keyValueUp);
  const [keyNope, value] = builder.split(toHeads(weights, keyValue, numHeads, inputs), [qkNopeHeadDim, vHeadDim], 3);
  const keyRope = builder.reshape(keyRopeRows, ["B", 1, s, qkRopeHeadDim]);

  const part = (queries: Value, key: Value) => ({
    query: builder.reshape(queries, ["B", numHeads, 1, s, queries.shape[3]!]),
    key,
  });
  const rotated = (heads: Value) => rotate(builder, heads, rotaryOf(inputs));
  return {
    parts: [part(queryNope!, keyNope!), part(rotated(queryRope!), rotated(keyRope))],
    value: value!,
    groups: numHeads,
  };
}

/**
 * The same over a past of compressed vectors, which stay compressed: with keys W_K c and values W_V c, scores are
 * (W_K^T q) c and the output is W_V of the mixed c (the absorbed form of arXiv 2405.04434, appendix B). A bias of the
 * keys adds the same number to all scores of a query, and the shares of values sum to 1.
 *
 * @returns [T, heads * V]
 */
export function latentWithPast(
  weights: BlockWeights,
  x: Value,
  attention: LatentAttention,
  inputs: AttentionInputs & { past: AttentionPast },
): Value {
  const { builder } = weights;
  const { numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank, keyValueUp } = attention;
  const { past } = inputs;
  const { weight, layout, bias } = keyValueUp;
  const stored = weights.float(weight);
  const up = builder.reshape(layout === "out-in" ? stored : builder.transpose(stored, [1, 0]), [
    ...[numHeads, qkNopeHeadDim + vHeadDim, kvLoraRank],
  ]);
  const [keyUp, valueUp] = builder.split(up, [qkNopeHeadDim, vHeadDim], 1);
  const byHead = (rows: Value) => builder.transpose(rows, [1, 0, 2]);

  const rows = builder.reshape(queryRows(weights, x, attention), ["T", numHeads, qkNopeHeadDim + qkRopeHeadDim]);
  const [nope, rope] = builder.split(rows, [qkNopeHeadDim, qkRopeHeadDim], 2);
  const absorbed = byHead(builder.matMul(byHead(nope!), keyUp!));
  const query = (part: Value, width: number) => {
    const heads = toHeads(weights, builder.reshape(part, ["T", numHeads * width]), numHeads, inputs);
    return stretched(builder, builder.scale(heads, attention.scale), attention.positionScale, inputs);
  };
  const one = (heads: Value) => builder.unsqueeze(heads, [1]);
  const { compressed, keyRopeRows } = compressedRows(weights, x, attention);
  const normed = toHeads(weights, weights.norm(compressed, attention.keyValueNorm), 1, inputs);
  const key = rotate(builder, toHeads(weights, keyRopeRows, 1, inputs), rotaryOf(inputs));
  const value = past.extend("compressed", normed);
  const parts = [
    { query: one(query(absorbed, kvLoraRank)), key: value },
    { query: one(rotate(builder, query(rope!, qkRopeHeadDim), rotaryOf(inputs))), key: past.extend("rotated", key) },
  ];
  const mixed = attendWithPast(weights, { parts, value, groups: 1 }, inputs, { sinks: null });
  const perHead = builder.reshape(mixed, ["T", numHeads, kvLoraRank]);
  const values = builder.reshape(byHead(builder.matMul(byHead(perHead), valueUp!, false, true)), [
    "T",
    numHeads * vHeadDim,
  ]);
  if (bias === null) return values;
  const [, ofValues] = builder.split(
    builder.reshape(weights.float(bias), [numHeads, qkNopeHeadDim + vHeadDim]),
    [qkNopeHeadDim, vHeadDim],
    1,
  );
  return builder.add(values, builder.reshape(ofValues!, [numHeads * vHeadDim]));
}

/** [T, heads * (nope + rope)] */
function queryRows(weights: BlockWeights, x: Value, { query }: LatentAttention): Value {
  return "down" in query
    ? weights.linear(weights.norm(weights.linear(x, query.down), query.norm), query.up)
    : weights.linear(x, query);
}

/** What keys and values come from before its norm, and the key that is to be rotated, a row a token. */
function compressedRows(weights: BlockWeights, x: Value, attention: LatentAttention) {
  const { kvLoraRank, qkRopeHeadDim } = attention;
  const rows = weights.linear(x, attention.keyValueDown);
  const [compressed, keyRopeRows] = weights.builder.split(rows, [kvLoraRank, qkRopeHeadDim], 1);
  return { compressed: compressed!, keyRopeRows: keyRopeRows! };
}

/** Rows [T, heads * D] as [B, heads, S, D]. */
function toHeads({ builder }: BlockWeights, rows: Value, heads: number, inputs: AttentionInputs): Value {
  const width = (rows.shape[1] as number) / heads;
  return builder.transpose(bySequence(builder, rows, inputs, [heads, width]), [0, 2, 1, 3]);
}

function rotaryOf({ rotary }: AttentionInputs) {
  if (rotary === null) throw new Error("latent attention needs rotary positions");
  return rotary;
}
