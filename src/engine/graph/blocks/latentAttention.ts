import type { LatentAttention } from "../../model/description";
import type { Value } from "../graph";
import type { AttentionHeads, AttentionInputs } from "./attentionHeads";
import { rotate, stretchByPosition } from "./rotary";
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
  const { numHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank, query } = attention;
  const s = inputs.sequenceLength;
  if (inputs.rotary === null) throw new Error("latent attention needs rotary positions");
  const toHeads = (rows: Value, dims: number) =>
    builder.transpose(builder.reshape(rows, ["B", s, numHeads, dims]), [0, 2, 1, 3]);

  const queryRows =
    "down" in query
      ? weights.linear(weights.norm(weights.linear(x, query.down), query.norm), query.up)
      : weights.linear(x, query);
  const unscaled = toHeads(queryRows, qkNopeHeadDim + qkRopeHeadDim);
  const queryHeads = stretchByPosition(builder, builder.scale(unscaled, attention.scale), attention.positionScale);
  const [queryNope, queryRope] = builder.split(queryHeads, [qkNopeHeadDim, qkRopeHeadDim], 3);
  const [compressed, keyRopeRows] = builder.split(
    weights.linear(x, attention.keyValueDown),
    [kvLoraRank, qkRopeHeadDim],
    1,
  );
  const keyValue = weights.linear(weights.norm(compressed!, attention.keyValueNorm), attention.keyValueUp);
  const [keyNope, value] = builder.split(toHeads(keyValue, qkNopeHeadDim + vHeadDim), [qkNopeHeadDim, vHeadDim], 3);
  const keyRope = builder.reshape(keyRopeRows!, ["B", 1, s, qkRopeHeadDim]);

  const part = (queries: Value, keys: Value) => ({
    query: builder.reshape(queries, ["B", numHeads, 1, s, queries.shape[3]!]),
    keyTransposed: builder.transpose(keys, [0, 1, 3, 2]),
  });
  const rotated = (heads: Value) => rotate(builder, heads, inputs.rotary!);
  return {
    parts: [part(queryNope!, keyNope!), part(rotated(queryRope!), rotated(keyRope))],
    value: value!,
    groups: numHeads,
  };
}
