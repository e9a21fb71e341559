import { malformedConfig, readInt, readNumber, type Config, type Key } from "./config";
import type {
  AttentionDescription,
  LayerDescription,
  MlpDescription,
  ModelDescription,
  MoeDescription,
  NormDescription,
} from "./description";
import { settle, type Setting } from "./settings";
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
  vocab: number;
  hidden: number;
  layers: number;
  heads: number;
  /** null: as many as attention heads. */
  keyValueHeads: number | null;
  /** Absent: hidden / heads. */
  headDim?: number;
  positions: number;
  epsilon: number;
  /** What the norms' epsilon is called; default: rms_norm_eps. */
  epsilonKey?: Setting<Key>;
}

/** @throws RerouteError `checkpoint/malformed`. */
export function readSizes(config: Config, absent: DecoderDefaults): DecoderSizes {
  const size = (key: string, fallback: number) => readInt(config, key, { min: 1, default: fallback });
  const hiddenSize = size("hidden_size", absent.hidden);
  const numHeads = size("num_attention_heads", absent.heads);
  // An explicit null means one key-value head for each head, whatever the class default is.
  const absentKeyValueHeads = config["num_key_value_heads"] === null ? null : absent.keyValueHeads;
  const numKeyValueHeads = size("num_key_value_heads", absentKeyValueHeads ?? numHeads);
  if (numHeads % numKeyValueHeads !== 0) {
    throw malformedConfig("num_key_value_heads", numKeyValueHeads, `a divisor of num_attention_heads = ${numHeads}`);
  }
  const absentHeadDim = config["head_dim"] === null ? undefined : absent.headDim;
  const headDim = size("head_dim", absentHeadDim ?? Math.floor(hiddenSize / numHeads));
  if (headDim < 1) throw malformedConfig("num_attention_heads", numHeads, `at most hidden_size = ${hiddenSize}`);
  return {
    vocabSize: size("vocab_size", absent.vocab),
    hiddenSize,
    numLayers: size("num_hidden_layers", absent.layers),
    numHeads,
    numKeyValueHeads,
    headDim,
    maxPositions: size("max_position_embeddings", absent.positions),
    normEpsilon: readNumber(config, settle<Key>(absent.epsilonKey, config, "rms_norm_eps"), {
      min: 0,
      default: absent.epsilon,
    }),
  };
}

/** Where a layer's norms are, by name; null: none there. */
export interface LayerNorms {
  beforeAttention: string | null;
  afterAttention: string | null;
  beforeFeedForward: string | null;
  afterFeedForward: string | null;
  /** The feed-forward part reads what attention reads. */
  parallel?: true;
}

/** Before each half of a layer. */
export const preNorms: LayerNorms = {
  beforeAttention: "input_layernorm",
  afterAttention: null,
  beforeFeedForward: "post_attention_layernorm",
  afterFeedForward: null,
};

export interface DecoderOptions {
  family: string;
  config: Config;
  weights: Weights;
  sizes: DecoderSizes;
  norm: (name: string) => NormDescription;
  /** Default: preNorms. */
  norms?: LayerNorms | undefined;
  tied: boolean;
  /** Default: model.norm. */
  finalNorm?: string | undefined;
  embeddingMultiplier: number;
  headScale: number;
  headBias: boolean;
  softcap: number | null;
  scalar: string | undefined;
  /** As `feedForward`, with the prefix of its attention before that of the layer. */
  attention: (index: number, prefix: string, layer: string) => AttentionDescription;
  /** `prefix` is the layer's own, e.g. "model.layers.3": families name the block inside it differently. */
  feedForward: (index: number, prefix: string) => MlpDescription | MoeDescription;
  residualMultiplier: number;
  expertsMultiplier: number;
}

/**
 * Puts a decoder together from its layers. Layers are described one by one, and each names tensors that must exist, so a
 * config that claims a billion layers ends at the first one that is not in the shards.
 */
export function describeDecoder(options: DecoderOptions): ModelDescription {
  const { weights, sizes, tied: tie } = options;
  const { vocabSize, hiddenSize } = sizes;
  const table = [vocabSize, hiddenSize] as const;
  const because = `vocab_size = ${vocabSize}, hidden_size = ${hiddenSize}`;
  const embeddingName = "model.embed_tokens.weight";
  const headName = "lm_head.weight";
  // Tied checkpoints may store either tensor, or both; transformers ties only what is absent or equal.
  const embedding = weights.view(tie ? weights.firstOf(embeddingName, headName) : embeddingName, table, because);
  const head = weights.view(tie ? weights.firstOf(headName, embeddingName) : headName, table, because);
  const { beforeAttention, afterAttention, beforeFeedForward, afterFeedForward, parallel } = options.norms ?? preNorms;
  const layers: LayerDescription[] = [];
  for (let index = 0; index < sizes.numLayers; index++) {
    const prefix = `model.layers.${index}`;
    const norm = (name: string | null) => (name === null ? null : options.norm(`${prefix}.${name}`));
    const inputNorm = norm(beforeAttention);
    const attention = options.attention(index, `${prefix}.self_attn`, prefix);
    const feedForward = options.feedForward(index, prefix);
    layers.push({
      index,
      inputNorm,
      attention,
      attentionOutputNorm: norm(afterAttention),
      postAttentionNorm: norm(beforeFeedForward),
      feedForward,
      feedForwardOutputNorm: norm(afterFeedForward),
      parallel: parallel ?? false,
      residualMultiplier: options.residualMultiplier,
      feedForwardMultiplier: options.residualMultiplier * (feedForward.kind === "moe" ? options.expertsMultiplier : 1),
      ...(options.scalar === undefined
        ? {}
        : { scalar: weights.view(`${prefix}.${options.scalar}`, [1], "one number") }),
    });
  }
  const softcap = options.softcap === null ? {} : { softcap: options.softcap };
  const finalNorm = options.norm(options.finalNorm ?? "model.norm");
  const bias = options.headBias ? weights.view("lm_head.bias", [vocabSize], "lm_head_bias") : null;
  return {
    family: options.family,
    vocabSize,
    hiddenSize,
    maxPositionEmbeddings: sizes.maxPositions,
    embedding: { weight: embedding, multiplier: options.embeddingMultiplier },
    layers,
    finalNorm,
    head: { weight: head, bias, scale: options.headScale, ...softcap, tied: head.tensor === embedding.tensor },
    unusedTensors: weights.unused(),
  };
}
