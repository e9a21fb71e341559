import type { LatentAttention } from "../../model/description";
import type { Value } from "../graph";
import type { AttentionInputs } from "./attention";
import { rotate } from "./rotary";
import type { BlockWeights } from "./weights";

/**
 * Scores [B, heads, S, S] and values [B, heads, S, V] of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434):
 * keys and values come from one compressed vector a token, and one rotated key is shared by all heads.
 */
export function latentScores(weights: BlockWeights, x: Value, attention: LatentAttention, inputs: AttentionInputs) {
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
  const [queryNope, queryRope] = builder.split(
    builder.scale(toHeads(queryRows, qkNopeHeadDim + qkRopeHeadDim), attention.scale),
    [qkNopeHeadDim, qkRopeHeadDim],
    3,
  );
  const [compressed, keyRopeRows] = builder.split(
    weights.linear(x, attention.keyValueDown),
    [kvLoraRank, qkRopeHeadDim],
    1,
  );
  const keyValue = weights.linear(weights.norm(compressed!, attention.keyValueNorm), attention.keyValueUp);
  const [keyNope, value] = builder.split(toHeads(keyValue, qkNopeHeadDim + vHeadDim), [qkNopeHeadDim, vHeadDim], 3);
  const keyRope = builder.reshape(keyRopeRows!, ["B", 1, s, qkRopeHeadDim]);

  const transposed = (key: Value) => builder.transpose(key, [0, 1, 3, 2]);
  const nopeScores = builder.matMul(queryNope!, transposed(keyNope!));
  const ropeScores = builder.matMul(
    rotate(builder, queryRope!, inputs.rotary),
    transposed(rotate(builder, keyRope, inputs.rotary)),
  );
  return { scores: builder.add(nopeScores, ropeScores), value: value! };
}
