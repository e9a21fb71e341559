import { readBoolean, readInt, readNullableInt, readOptionalNumber, unsupported, type Config } from "./config";
import { settleRotary, type AttentionReader, type FamilyContext, type RotaryTable } from "./decoderFamily";
import type { LatentAttention, PositionScale, RotaryDescription } from "./description";
import { readRotaryParameters, yarnMagnitude } from "./rotaryConfig";

/** Multi-head latent attention of a family. */
export interface LatentTable {
  /** Head sizes where config.json is silent; those of DeepSeek-V2 and V3 alike. */
  sizes?: Partial<Record<keyof typeof deepseekSizes, number>>;
  rotary: Omit<RotaryTable, "pairing" | "partialFactor">;
  /** `partial_rotary_factor` is the rotated part's share of a whole head (Mistral 4), not of that part; default false. */
  ofWholeHead?: true;
  /** Default: interleaved. */
  pairing?: (config: Config) => RotaryDescription["pairing"];
  /** From the rotary parameters. */
  positionScale?: (parameters: Config) => PositionScale | null;
  /** Tensors of the attention that choose what it sees, and choose everything as long as the sequence is short enough. */
  indexer?: (context: FamilyContext, prefix: string) => LatentAttention["indexer"];
}

const deepseekSizes = {
  q_lora_rank: 1536,
  kv_lora_rank: 512,
  qk_nope_head_dim: 128,
  qk_rope_head_dim: 64,
  v_head_dim: 128,
};

/**
 * Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values share one compressed projection, queries
 * may have another.
 */
export function latentAttention(table: LatentTable): AttentionReader {
  return (context) => readLatent(context, table);
}

function readLatent(context: FamilyContext, table: LatentTable): (layer: number, prefix: string) => LatentAttention {
  const { config, weights, sizes } = context;
  const { hiddenSize, numHeads, numKeyValueHeads } = sizes;
  const absent = { ...deepseekSizes, ...table.sizes };
  const dims = (key: Exclude<keyof typeof absent, "q_lora_rank">, min = 1) =>
    readInt(config, key, { min, default: absent[key] });
  const queryRank = readNullableInt(config, "q_lora_rank", { min: 1, absent: absent.q_lora_rank });
  const [keyValueRank, nopeHeadDim] = [dims("kv_lora_rank"), dims("qk_nope_head_dim")];
  const [ropeHeadDim, valueHeadDim] = [dims("qk_rope_head_dim", 2), dims("v_head_dim")];
  const queryHeadDim = nopeHeadDim + ropeHeadDim;
  const pairing = table.pairing?.(config) ?? "interleaved";
  const share = table.ofWholeHead ? { partialFactor: () => ropeHeadDim / queryHeadDim } : {};
  const rotated = table.ofWholeHead ? queryHeadDim : ropeHeadDim;
  const rotary = settleRotary({ ...table.rotary, ...share, pairing }, context, rotated);
  if (rotary.dims !== ropeHeadDim) {
    throw unsupported(
      "partial_rotary_factor",
      rotary.dims / rotated,
      `${ropeHeadDim / rotated}, as qk_rope_head_dim says`,
    );
  }
  if (numKeyValueHeads !== numHeads) {
    throw unsupported(
      "num_key_value_heads",
      numKeyValueHeads,
      `num_attention_heads = ${numHeads} with latent attention`,
    );
  }
  // Biases sit on the projections that read or write the residual stream, except on an uncompressed query projection.
  const bias = readBoolean(config, "attention_bias", false);
  const scale = queryHeadDim ** -0.5 * scaleCorrection(config, table.rotary.defaultParameters);
  const because =
    `num_attention_heads = ${numHeads}, q_lora_rank = ${queryRank ?? "null"}, kv_lora_rank = ${keyValueRank}, ` +
    `qk_nope_head_dim = ${nopeHeadDim}, qk_rope_head_dim = ${ropeHeadDim}, v_head_dim = ${valueHeadDim}`;
  const linear = (name: string, inputs: number, outputs: number, withBias = false) =>
    weights.linear(name, inputs, outputs, { bias: withBias, because });
  const queries = numHeads * queryHeadDim;
  const positionScale = table.positionScale?.(readRotaryParameters(config, table.rotary.defaultParameters).parameters);
  return (_, prefix) => ({
    kind: "latent",
    numHeads,
    scale,
    rotary,
    positionScale: positionScale ?? null,
    slidingWindow: null,
    query:
      queryRank === null
        ? linear(`${prefix}.q_proj`, hiddenSize, queries)
        : {
            down: linear(`${prefix}.q_a_proj`, hiddenSize, queryRank, bias),
            norm: weights.norm("rms", `${prefix}.q_a_layernorm`, queryRank, latentNormEpsilon, because),
            up: linear(`${prefix}.q_b_proj`, queryRank, queries),
          },
    keyValueDown: linear(`${prefix}.kv_a_proj_with_mqa`, hiddenSize, keyValueRank + ropeHeadDim, bias),
    keyValueNorm: weights.norm("rms", `${prefix}.kv_a_layernorm`, keyValueRank, latentNormEpsilon, because),
    keyValueUp: linear(`${prefix}.kv_b_proj`, keyValueRank, numHeads * (nopeHeadDim + valueHeadDim)),
    output: linear(`${prefix}.o_proj`, numHeads * valueHeadDim, hiddenSize, bias),
    qkNopeHeadDim: nopeHeadDim,
    qkRopeHeadDim: ropeHeadDim,
    vHeadDim: valueHeadDim,
    kvLoraRank: keyValueRank,
    indexer: table.indexer?.(context, prefix) ?? null,
  });
}

/** The norms inside latent attention keep their class default; config.json's rms_norm_eps is for the others. */
const latentNormEpsilon = 1e-6;

/** DeepSeek corrects the score scale by the square of YaRN's magnitude for mscale_all_dim. */
function scaleCorrection(config: Config, fallback: Config | undefined): number {
  const { type, parameters } = readRotaryParameters(config, fallback);
  const mscaleAllDim = readOptionalNumber(parameters, "mscale_all_dim") ?? 0;
  const factor = readOptionalNumber(parameters, "factor") ?? 1;
  return type === "default" || mscaleAllDim === 0 ? 1 : yarnMagnitude(factor, mscaleAllDim) ** 2;
}
