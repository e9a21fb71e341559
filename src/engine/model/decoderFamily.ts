import { readBoolean, refuseUnless, type Config } from "./config";
import { describeDecoder, readSizes, type DecoderDefaults, type DecoderSizes, type LayerNorms } from "./decoder";
import type { AttentionDescription, RotaryDescription } from "./description";
import { writeNumExperts } from "./expertCount";
import { writeExpertWidth } from "./expertWidths";
import type { FamilyAbout, JsonObject, ModelFamily } from "./family";
import {
  denseReader,
  feedForwardReader,
  perExpertTensors,
  type DenseTable,
  type FeedForwardTable,
} from "./feedForward";
import { readRotary, type RotaryOptions } from "./rotaryConfig";
import { settle, type Setting } from "./settings";
import { roots } from "./textTower";
import { Weights, type NormKind } from "./weights";

/** What the parts of a family are read from. */
export interface FamilyContext {
  config: Config;
  weights: Weights;
  sizes: DecoderSizes;
}

/** Reads the attention of each layer; `prefix` is "<layer>.self_attn". */
export type AttentionReader = (
  context: FamilyContext,
) => (index: number, prefix: string, layer: string) => AttentionDescription;

/**
 * A decoder family as data: what of config.json means what, what tensors are called, and where norms are. A plain family is
 * nothing but this table; what is truly odd is a function in one of its places.
 */
export interface DecoderFamily {
  modelType: string;
  about: FamilyAbout;
  /** What transformers' config class says where config.json is silent. */
  sizes: DecoderDefaults;
  /** Options whose other values mean another model: allowed values, and why. Refused by name. */
  only?: Readonly<Record<string, readonly [allowed: readonly unknown[], why: string]>>;
  /** Further refusals, where a list of values does not say it. @throws RerouteError `model/unsupported-option` */
  check?: (config: Config, sizes: DecoderSizes) => void;
  /** Default: rms. */
  norm?: Setting<NormKind>;
  /** Default: before attention and before the feed-forward part. */
  norms?: LayerNorms;
  attention: AttentionReader;
  /** With `count`, some or all layers have experts; without it, none has: a dense model. */
  feedForward: FeedForwardTable | DenseTable;
  /** `tie_word_embeddings` where config.json names none, or what to read instead; default false. */
  tied?: Setting<boolean>;
  finalNorm?: string;
  headBias?: Setting<boolean>;
  /** Logits are multiplied by this. */
  headScale?: Setting<number>;
  /** Logits z become c tanh(z / c) for this c. */
  softcap?: (config: Config) => number | null;
  /** A layer's number that multiplies what it gives. */
  scalar?: string;
  embeddingMultiplier?: (config: Config, sizes: DecoderSizes) => number;
  /** Both residual branches are multiplied by this. */
  residualMultiplier?: Setting<number>;
  /** The sum of routed and shared experts is multiplied by this as well. */
  expertsMultiplier?: Setting<number>;
  /** Further keys of config.json that hold the number of experts. */
  alsoWritten?: (config: JsonObject, numExperts: number) => JsonObject;
}

/** The family that a table describes. */
export function decoderFamily(table: DecoderFamily): ModelFamily {
  const { modelType, about, only = {}, feedForward } = table;
  return {
    modelType,
    about,
    describe: (checkpoint) => {
      const { config } = checkpoint;
      const weights = new Weights(checkpoint);
      const sizes = readSizes(config, table.sizes);
      for (const [key, [allowed, why]] of Object.entries(only)) refuseUnless(config, key, allowed, why);
      table.check?.(config, sizes);
      const context = { config, weights, sizes };
      const kind = settle<NormKind>(table.norm, config, "rms");
      const residualMultiplier = settle(table.residualMultiplier, config, 1);
      return describeDecoder({
        ...context,
        family: modelType,
        norm: (name) => weights.norm(kind, name, sizes.hiddenSize, sizes.normEpsilon),
        norms: table.norms,
        tied:
          typeof table.tied === "function"
            ? table.tied(config)
            : readBoolean(config, "tie_word_embeddings", table.tied ?? false),
        finalNorm: table.finalNorm,
        headBias: settle(table.headBias, config, false),
        headScale: settle(table.headScale, config, 1),
        softcap: table.softcap?.(config) ?? null,
        scalar: table.scalar,
        embeddingMultiplier: table.embeddingMultiplier?.(config, sizes) ?? 1,
        residualMultiplier,
        expertsMultiplier: settle(table.expertsMultiplier, config, 1),
        attention: table.attention(context),
        feedForward: hasExperts(feedForward)
          ? feedForwardReader(context, feedForward)
          : denseReader(context, feedForward),
      });
    },
    isDense: !hasExperts(feedForward),
    withNumExperts: (config, numExperts) => {
      if (!hasExperts(feedForward)) return config;
      const { keys, written = [keys[0]] } = feedForward.count;
      const changed = writeNumExperts(config, numExperts, written);
      return table.alsoWritten?.(changed, numExperts) ?? changed;
    },
    withExpertWidth: (config, width) =>
      hasExperts(feedForward) ? writeExpertWidth(config, width, feedForward) : config,
    perExpertTensors: (layer) =>
      hasExperts(feedForward)
        ? roots.flatMap(({ body }) => perExpertTensors(`${body}layers.${layer}`, feedForward))
        : [],
  };
}

function hasExperts(table: FeedForwardTable | DenseTable): table is FeedForwardTable {
  return "count" in table;
}

/** How a family rotates queries and keys; what is not said is not there. */
export interface RotaryTable extends Partial<Omit<RotaryOptions, "headDim" | "maxPositions" | "partialFactor">> {
  /** Base of the frequencies where config.json names none. */
  defaultTheta: number;
  /** `partial_rotary_factor` where config.json names none; absent: this family rotates whole heads. */
  partialFactor?: (config: Config, sizes: DecoderSizes) => number;
}

/** A table, or a function for what no table says. */
export type RotarySetting = RotaryTable | ((context: FamilyContext) => RotaryDescription);

/** @param headDim dimensions that may be rotated */
export function settleRotary(setting: RotarySetting, context: FamilyContext, headDim: number): RotaryDescription {
  if (typeof setting === "function") return setting(context);
  const { config, sizes } = context;
  return readRotary(config, {
    pairing: "half",
    ...setting,
    headDim,
    maxPositions: sizes.maxPositions,
    partialFactor: setting.partialFactor?.(config, sizes) ?? null,
  });
}
