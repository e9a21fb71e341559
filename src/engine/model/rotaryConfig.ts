import {
  malformedConfig,
  readBoolean,
  readInt,
  readNumber,
  readNumberList,
  readObject,
  readOptionalNumber,
  readString,
  unsupported,
  type Config,
} from "./config";
import type { RotaryDescription, RotaryScaling } from "./rotaryDescription";
import type { LayerType } from "./layerTypes";

export interface RotaryOptions {
  /** Dimensions of a head (of its rotated part, for latent attention). */
  headDim: number;
  /** `max_position_embeddings`. */
  maxPositions: number;
  /** Base of the frequencies where config.json names none. */
  defaultTheta: number;
  pairing: RotaryDescription["pairing"];
  /** `partial_rotary_factor` where config.json names none; null: this family rotates whole heads. */
  partialFactor: number | null;
  /** Rotary scaling where config.json names none at all (gpt-oss). */
  defaultParameters?: Config;
  /** Whose parameters these are, where config.json has some for each type of layer. */
  layerType?: LayerType;
  /** Name of the base beside the parameters; default: rope_theta. */
  thetaKey?: string;
}

/**
 * Rotary positions from either config style: released (`rope_theta`, `rope_scaling` with `type` or `rope_type`) or
 * transformers 5 (`rope_parameters`). Precedence as in transformers' modeling_rope_utils.py: `rope_scaling` wins over
 * `rope_parameters`, and a `rope_theta` inside them over one beside them.
 * @param treatAs reads no scaling, for a family that has its own way with it
 * @throws RerouteError `model/unsupported-option`, `checkpoint/malformed`.
 */
export function readRotary(config: Config, options: RotaryOptions, treatAs?: "default"): RotaryDescription {
  const { type, parameters } = readRotaryParameters(config, options.defaultParameters, options.layerType);
  const theta = readNumber(parameters, "rope_theta", {
    min: Number.MIN_VALUE,
    default: readNumber(config, options.thetaKey ?? "rope_theta", {
      min: Number.MIN_VALUE,
      default: options.defaultTheta,
    }),
  });
  const dims = rotatedDims(config, parameters, options);
  return {
    dims,
    pairing: options.pairing,
    theta,
    scaling: readScaling(treatAs ?? type, parameters, config, options, dims),
  };
}

/** The object that holds rotary parameters, of a type of layer where they differ, and the kind of scaling it names. */
export function readRotaryParameters(
  config: Config,
  fallback: Config = {},
  layerType?: LayerType,
): { type: string; parameters: Config } {
  const scaling = readObject(config, "rope_scaling");
  const inside = readObject(config, "rope_parameters") ?? fallback;
  const given = scaling !== null && Object.keys(scaling).length > 0 ? scaling : inside;
  const parameters = (layerType === undefined ? null : readObject(given, layerType)) ?? given;
  for (const [key, value] of Object.entries(parameters)) {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      throw unsupported("rope_parameters", key, "the same rotary parameters in every layer");
    }
  }
  const type = readString(parameters, "rope_type") ?? readString(parameters, "type") ?? "default";
  return { type, parameters };
}

function rotatedDims(config: Config, parameters: Config, options: RotaryOptions): number {
  const { headDim, partialFactor } = options;
  const factor =
    readOptionalNumber(parameters, "partial_rotary_factor", { min: 0, max: 1 }) ??
    readOptionalNumber(config, "partial_rotary_factor", { min: 0, max: 1 }) ??
    partialFactor ??
    1;
  if (partialFactor === null && factor !== 1) throw unsupported("partial_rotary_factor", factor, "1");
  const dims = Math.trunc(headDim * factor);
  if (dims < 2 || dims % 2 !== 0)
    throw unsupported("partial_rotary_factor", factor, "an even number of rotated dimensions");
  return dims;
}

function readScaling(
  type: string,
  parameters: Config,
  config: Config,
  options: RotaryOptions,
  dims: number,
): RotaryScaling {
  const factor = () => readNumber(parameters, "factor", { min: Number.MIN_VALUE });
  // A value beside rope_parameters wins over the one inside (Phi-3 and relatives write it there).
  const originalMaxPositionEmbeddings = () =>
    readInt(config, "original_max_position_embeddings", {
      min: 1,
      default: readInt(parameters, "original_max_position_embeddings", { min: 1, default: options.maxPositions }),
    });
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor: factor() };
    case "dynamic":
      // transformers stretches from max_position_embeddings here and reads no original length.
      return { type, factor: factor(), originalMaxPositionEmbeddings: options.maxPositions };
    case "llama3":
      return {
        type,
        factor: factor(),
        lowFreqFactor: readNumber(parameters, "low_freq_factor", { min: Number.MIN_VALUE }),
        highFreqFactor: readNumber(parameters, "high_freq_factor", { min: Number.MIN_VALUE }),
        originalMaxPositionEmbeddings: originalMaxPositionEmbeddings(),
      };
    case "yarn":
      return readYarn(parameters, originalMaxPositionEmbeddings(), options.maxPositions);
    case "longrope":
      return readLongRope(parameters, originalMaxPositionEmbeddings(), options.maxPositions, dims);
    default:
      throw unsupported("rope_type", type, "default, linear, dynamic, yarn, llama3, longrope");
  }
}

/** YaRN (Peng et al., arXiv 2309.00071), with DeepSeek's mscale keys. */
function readYarn(parameters: Config, originalMaxPositionEmbeddings: number, maxPositions: number): RotaryScaling {
  const factor = readNumber(parameters, "factor", {
    min: Number.MIN_VALUE,
    default: maxPositions / originalMaxPositionEmbeddings,
  });
  const mscale = readOptionalNumber(parameters, "mscale") ?? 0;
  const mscaleAllDim = readOptionalNumber(parameters, "mscale_all_dim") ?? 0;
  const implied =
    mscale !== 0 && mscaleAllDim !== 0
      ? yarnMagnitude(factor, mscale) / yarnMagnitude(factor, mscaleAllDim)
      : yarnMagnitude(factor, 1);
  return {
    type: "yarn",
    factor,
    originalMaxPositionEmbeddings,
    // Zero counts as absent, as in transformers.
    betaFast: readNumber(parameters, "beta_fast", { min: 0, default: 32 }) || 32,
    betaSlow: readNumber(parameters, "beta_slow", { min: 0, default: 1 }) || 1,
    truncate: readBoolean(parameters, "truncate", true),
    attentionFactor: readOptionalNumber(parameters, "attention_factor") ?? implied,
  };
}

/** 0.1 * mscale * ln(scale) + 1, YaRN's correction of attention magnitudes; 1 where nothing is stretched. */
export function yarnMagnitude(scale: number, mscale: number): number {
  return scale <= 1 ? 1 : 0.1 * mscale * Math.log(scale) + 1;
}

/** LongRoPE (Ding et al., arXiv 2402.13753). */
function readLongRope(
  parameters: Config,
  originalMaxPositionEmbeddings: number,
  maxPositions: number,
  dims: number,
): RotaryScaling {
  const factors = (key: string): number[] => {
    const found = readNumberList(parameters, key);
    if (found?.length !== dims / 2 || found.some((value) => value <= 0)) {
      throw malformedConfig(key, found, `a list of ${dims / 2} positive numbers`);
    }
    return found;
  };
  const factor = readOptionalNumber(parameters, "factor") ?? maxPositions / originalMaxPositionEmbeddings;
  const implied = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositionEmbeddings));
  const attentionFactor = readOptionalNumber(parameters, "attention_factor") ?? implied;
  return {
    type: "longrope",
    shortFactor: factors("short_factor"),
    longFactor: factors("long_factor"),
    originalMaxPositionEmbeddings,
    attentionFactorShort: attentionFactor,
    attentionFactorLong: attentionFactor,
  };
}
