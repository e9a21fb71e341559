import { readBoolean, readInt, readNullableInt, readOptionalNumber, unsupported, type Config } from "./config";
import type { DecoderSizes } from "./decoder";
import type { LatentAttention } from "./description";
import { readRotaryParameters, yarnMagnitude } from "./rotaryConfig";
import type { Weights } from "./weights";

/** Head sizes of multi-head latent attention; defaults are those of DeepSeek-V2 and V3 alike. */
export interface LatentSizes {
  queryRank: number | null;
  keyValueRank: number;
  nopeHeadDim: number;
  ropeHeadDim: number;
  valueHeadDim: number;
}

export function readLatentSizes(config: Config): LatentSizes {
  return {
    queryRank: readNullableInt(config, "q_lora_rank", { min: 1, absent: 1536 }),
    keyValueRank: readInt(config, "kv_lora_rank", { min: 1, default: 512 }),
    nopeHeadDim: readInt(config, "qk_nope_head_dim", { min: 1, default: 128 }),
    ropeHeadDim: readInt(config, "qk_rope_head_dim", { min: 2, default: 64 }),
    valueHeadDim: readInt(config, "v_head_dim", { min: 1, default: 128 }),
  };
}

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values share one compressed projection, queries
 * may have another.
 */
export function readLatentAttention(
  config: Config,
  weights: Weights,
  sizes: DecoderSizes,
  latent: LatentSizes,
): (layer: number, prefix: string) => LatentAttention {
  const { hiddenSize, numHeads, numKeyValueHeads } = sizes;
  const { queryRank, keyValueRank, nopeHeadDim, ropeHeadDim, valueHeadDim } = latent;
  if (numKeyValueHeads !== numHeads) {
    throw unsupported(
      "num_key_value_heads",
      numKeyValueHeads,
      `num_attention_heads = ${numHeads} with latent attention`,
    );
  }
  // Biases sit on the projections that read or write the residual stream, except on an uncompressed query projection.
  const bias = readBoolean(config, "attention_bias", false);
  const queryHeadDim = nopeHeadDim + ropeHeadDim;
  const scale = queryHeadDim ** -0.5 * scaleCorrection(config);
  const because =
    `num_attention_heads = ${numHeads}, q_lora_rank = ${queryRank ?? "null"}, kv_lora_rank = ${keyValueRank}, ` +
    `qk_nope_head_dim = ${nopeHeadDim}, qk_rope_head_dim = ${ropeHeadDim}, v_head_dim = ${valueHeadDim}`;
  const linear = (name: string, inputs: number, outputs: number, withBias = false) =>
    weights.linear(name, inputs, outputs, { bias: withBias, because });
  const queries = numHeads * queryHeadDim;
  return (_, prefix) => ({
    kind: "latent",
    numHeads,
    scale,
    slidingWindow: null,
    query:
      queryRank === null
        ? linear(`${prefix}.q_proj`, hiddenSize, queries)
        : {
            down: linear(`${prefix}.q_a_proj`, hiddenSize, queryRank, bias),
            norm: weights.rmsNorm(`${prefix}.q_a_layernorm`, queryRank, latentNormEpsilon, because),
            up: linear(`${prefix}.q_b_proj`, queryRank, queries),
          },
    keyValueDown: linear(`${prefix}.kv_a_proj_with_mqa`, hiddenSize, keyValueRank + ropeHeadDim, bias),
    keyValueNorm: weights.rmsNorm(`${prefix}.kv_a_layernorm`, keyValueRank, latentNormEpsilon, because),
    keyValueUp: linear(`${prefix}.kv_b_proj`, keyValueRank, numHeads * (nopeHeadDim + valueHeadDim)),
    output: linear(`${prefix}.o_proj`, numHeads * valueHeadDim, hiddenSize, bias),
    qkNopeHeadDim: nopeHeadDim,
    qkRopeHeadDim: ropeHeadDim,
    vHeadDim: valueHeadDim,
    kvLoraRank: keyValueRank,
  });
}

/** The norms inside latent attention keep their class default; config.json's rms_norm_eps is for the others. */
const latentNormEpsilon = 1e-6;

/** DeepSeek corrects the score scale by the square of YaRN's magnitude for mscale_all_dim. */
function scaleCorrection(config: Config): number {
  const { type, parameters } = readRotaryParameters(config);
  const mscaleAllDim = readOptionalNumber(parameters, "mscale_all_dim") ?? 0;
  const factor = readOptionalNumber(parameters, "factor") ?? 1;
  return type === "default" || mscaleAllDim === 0 ? 1 : yarnMagnitude(factor, mscaleAllDim) ** 2;
}
