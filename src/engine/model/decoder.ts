import { RerouteError } from "../../protocol/errors";
import { malformed, readBoolean, readInt, readNumber, type Config } from "./config";
import type {
  AttentionDescription,
  LayerDescription,
  MlpDescription,
  ModelDescription,
  MoeDescription,
  NormDescription,
  RotaryDescription,
} from "./description";
import type { Weights } from "./weights";

/** Sizes that every decoder's config.json has. */
export interface DecoderSizes {
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  maxPositions: number;
  normEpsilon: number;
}

/** What transformers' config class says where config.json is silent. */
export interface DecoderDefaults {
  vocab_size: number;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** null: as many as attention heads. */
  num_key_value_heads: number | null;
  /** Absent: hidden_size / num_attention_heads. */
  head_dim?: number;
  max_position_embeddings: number;
  rms_norm_eps: number;
}

/** @throws RerouteError `checkpoint/malformed`. */
export function readSizes(config: Config, defaults: DecoderDefaults): DecoderSizes {
  const size = (key: Exclude<keyof DecoderDefaults, "rms_norm_eps">, fallback: number) =>
    readInt(config, key, { min: 1, default: fallback });
  const hiddenSize = size("hidden_size", defaults.hidden_size);
  const numHeads = size("num_attention_heads", defaults.num_attention_heads);
  // An explicit null means one key-value head for each head, whatever the class default is.
  const absentKeyValueHeads = config["num_key_value_heads"] === null ? null : defaults.num_key_value_heads;
  const numKeyValueHeads = size("num_key_value_heads", absentKeyValueHeads ?? numHeads);
  if (numHeads % numKeyValueHeads !== 0) {
    throw malformed("num_key_value_heads", numKeyValueHeads, `a divisor of num_attention_heads = ${numHeads}`);
  }
  const absentHeadDim = config["head_dim"] === null ? undefined : defaults.head_dim;
  const headDim = size("head_dim", absentHeadDim ?? Math.floor(hiddenSize / numHeads));
  if (headDim < 1) throw malformed("num_attention_heads", numHeads, `at most hidden_size = ${hiddenSize}`);
  return {
    vocabSize: size("vocab_size", defaults.vocab_size),
    hiddenSize,
    numLayers: size("num_hidden_layers", defaults.num_hidden_layers),
    numHeads,
    numKeyValueHeads,
    headDim,
    maxPositions: size("max_position_embeddings", defaults.max_position_embeddings),
    normEpsilon: readNumber(config, "rms_norm_eps", { min: 0, default: defaults.rms_norm_eps }),
  };
}

export interface DecoderOptions {
  family: string;
  config: Config;
  weights: Weights;
  sizes: DecoderSizes;
  rotary: RotaryDescription;
  norm: (name: string) => NormDescription;
  /** `tie_word_embeddings` where config.json names none. */
  tieDefault: boolean;
  embeddingMultiplier?: number;
  headScale?: number;
  headBias?: boolean;
  attention: (index: number, prefix: string) => AttentionDescription;
  /** `prefix` is the layer's own, e.g. "model.layers.3": families name the block inside it differently. */
  feedForward: (index: number, prefix: string) => MlpDescription | MoeDescription;
  residualMultiplier?: number;
}

/**
 * Puts a decoder together from its layers. Layers are described one by one, and each names tensors that must exist, so a
 * config that claims a billion layers ends at the first one that is not in the shards.
 * @throws RerouteError `model/not-moe` where no layer has experts.
 */
export function describeDecoder(options: DecoderOptions): ModelDescription {
  const { config, weights, sizes } = options;
  const { vocabSize, hiddenSize } = sizes;
  const table = [vocabSize, hiddenSize] as const;
  const because = `vocab_size = ${vocabSize}, hidden_size = ${hiddenSize}`;
  const tie = readBoolean(config, "tie_word_embeddings", options.tieDefault);
  const embeddingName = "model.embed_tokens.weight";
  const headName = "lm_head.weight";
  // Tied checkpoints may store either tensor, or both; transformers ties only what is absent or equal.
  const embedding = weights.view(tie ? weights.firstOf(embeddingName, headName) : embeddingName, table, because);
  const head = weights.view(tie ? weights.firstOf(headName, embeddingName) : headName, table, because);
  const layers: LayerDescription[] = [];
  for (let index = 0; index < sizes.numLayers; index++) {
    const prefix = `model.layers.${index}`;
    layers.push({
      index,
      inputNorm: options.norm(`${prefix}.input_layernorm`),
      attention: options.attention(index, `${prefix}.self_attn`),
      postAttentionNorm: options.norm(`${prefix}.post_attention_layernorm`),
      feedForward: options.feedForward(index, prefix),
      residualMultiplier: options.residualMultiplier ?? 1,
    });
  }
  if (!layers.some((layer) => layer.feedForward.kind === "moe")) {
    throw new RerouteError(
      "model/not-moe",
      `config.json of this ${options.family} checkpoint makes none of its ${layers.length} layers a Mixture-of-Experts layer, so there is no router to calibrate`,
    );
  }
  const finalNorm = options.norm("model.norm");
  const bias = options.headBias ? weights.view("lm_head.bias", [vocabSize], "lm_head_bias") : null;
  return {
    family: options.family,
    vocabSize,
    hiddenSize,
    maxPositionEmbeddings: sizes.maxPositions,
    embedding: { weight: embedding, multiplier: options.embeddingMultiplier ?? 1 },
    rotary: options.rotary,
    layers,
    finalNorm,
    head: { weight: head, bias, scale: options.headScale ?? 1, tied: head.tensor === embedding.tensor },
    unusedTensors: weights.unused(),
  };
}
