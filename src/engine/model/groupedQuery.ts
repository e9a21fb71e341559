import type { Config } from "./config";
import { settleRotary, type AttentionReader, type FamilyContext, type RotarySetting } from "./decoderFamily";
import type { GroupedQueryAttention, LinearDescription, PositionScale } from "./description";
import type { WindowRule } from "./layerTypes";
import { settle, type Setting } from "./settings";
import type { NormKind } from "./weights";

/** Norms of queries and keys: over each head, or over the whole projection. */
export interface HeadNorms {
  query: string;
  key: string;
  scope: "head" | "projection";
  /** Default: before it. */
  afterRotary?: boolean;
  kind?: NormKind;
}

/** Grouped-query attention of a family; what is not said is not there. */
export interface GroupedQueryTable {
  /** null: no layer has rotary positions. */
  rotary: RotarySetting | null;
  /** Of layers that slide, where they have positions of their own. */
  slidingRotary?: RotarySetting;
  /** Which layers are rotated; default: all. */
  rotates?: (context: FamilyContext, windows: (layer: number) => number | null) => (layer: number) => boolean;
  /** Default: no layer slides, and nothing is asked of config.json. */
  windows?: WindowRule;
  /** Layers whose positions see only their own run of so many; null: others. */
  chunks?: (context: FamilyContext) => (layer: number) => number | null;
  /** Biases of the query, key and value projections. */
  bias?: Setting<boolean>;
  /** Of the output projection; default: as the others. */
  outputBias?: Setting<boolean>;
  norms?: HeadNorms | ((config: Config, has: (name: string) => boolean, isRotated: boolean) => HeadNorms | null);
  /** Of values, over each head. */
  valueNorm?: NormKind;
  /** Values are what the key projection gives. */
  keysAreValues?: boolean;
  /** Scores are multiplied by this; default: headDim^-1/2. */
  scale?: Setting<number>;
  clip?: Setting<number | null>;
  /** Scores z become c tanh(z / c) for this c. */
  softcap?: (config: Config) => number | null;
  /** Query, key and value projections are rows of this one tensor, in that order, unless they are stored apart (Phi-3). */
  joined?: string;
  /** Scores that take probability away, under one of these names, in the layers that have them. */
  sinks?: { names: readonly [string, ...string[]]; in: (window: number | null) => boolean };
  /** Default: as many as config.json's num_key_value_heads. */
  numKeyValueHeads?: (context: FamilyContext, window: number | null) => number;
  /** Default: headDim. */
  valueHeadDim?: Setting<number>;
  valueScale?: Setting<number>;
  indexer?: (context: FamilyContext, layer: number, prefix: string) => GroupedQueryAttention["indexer"];
  positionScale?: (config: Config, layerIsRotated: boolean) => PositionScale | null;
  /** A projection whose sigmoid multiplies what attention gives, or where it is stored. */
  outputGate?: string | { in: "query" };
  /** The output projection's name; default: o_proj. */
  output?: string;
}

export const perHead: HeadNorms = { query: "q_norm", key: "k_norm", scope: "head" };
export const perProjection: HeadNorms = { query: "q_norm", key: "k_norm", scope: "projection" };

/** Grouped-query attention (Ainslie et al., arXiv 2305.13245) under `<prefix>.{q,k,v,o}_proj`. */
export function groupedQuery(table: GroupedQueryTable): AttentionReader {
  return (context) => {
    const { config, sizes } = context;
    const { headDim } = sizes;
    const rotary = table.rotary === null ? null : settleRotary(table.rotary, context, headDim);
    const sliding = table.slidingRotary ? settleRotary(table.slidingRotary, context, headDim) : rotary;
    const windows = table.windows?.(config, sizes) ?? (() => null);
    const chunks = table.chunks?.(context) ?? (() => null);
    const rotates = table.rotates?.(context, windows) ?? (() => true);
    const bias = settle(table.bias, config, false);
    const settled = {
      inputBias: bias,
      outputBias: settle(table.outputBias, config, bias),
      scale: settle(table.scale, config, headDim ** -0.5),
      clip: settle(table.clip, config, null),
      valueHeadDim: settle(table.valueHeadDim, config, headDim),
      valueScale: settle(table.valueScale, config, 1),
      softcap: table.softcap?.(config) ?? null,
    };
    return (layer, prefix) =>
      withChunk(
        readLayer(context, table, settled, prefix, {
          layer,
          slidingWindow: windows(layer),
          rotary: rotates(layer) ? (windows(layer) === null ? rotary : sliding) : null,
        }),
        chunks(layer),
      );
  };
}

function withChunk(attention: GroupedQueryAttention, chunk: number | null): GroupedQueryAttention {
  return chunk === null ? attention : { ...attention, chunk };
}

interface Settled {
  inputBias: boolean;
  outputBias: boolean;
  scale: number;
  clip: number | null;
  valueHeadDim: number;
  valueScale: number;
  softcap: number | null;
}

function readLayer(
  context: FamilyContext,
  table: GroupedQueryTable,
  settled: Settled,
  prefix: string,
  { layer, slidingWindow, rotary }: { layer: number } & Pick<GroupedQueryAttention, "slidingWindow" | "rotary">,
): GroupedQueryAttention {
  const { config, weights, sizes } = context;
  const { hiddenSize, numHeads, headDim, normEpsilon } = sizes;
  const { scale, clip, valueHeadDim, valueScale, softcap, inputBias, outputBias } = settled;
  const numKeyValueHeads = table.numKeyValueHeads?.(context, slidingWindow) ?? sizes.numKeyValueHeads;
  const [queries, keys, values] = [numHeads * headDim, numKeyValueHeads * headDim, numKeyValueHeads * valueHeadDim];
  const because =
    `hidden_size = ${hiddenSize}, num_attention_heads = ${numHeads}, num_key_value_heads = ${numKeyValueHeads}, ` +
    `head_dim = ${headDim}`;
  const has = (name: string) => weights.has(`${prefix}.${name}`);
  const norms = typeof table.norms === "function" ? table.norms(config, has, rotary !== null) : (table.norms ?? null);
  const linear = (name: string, inputs: number, outputs: number, bias: boolean) =>
    weights.linear(`${prefix}.${name}`, inputs, outputs, { bias, because });
  const widths = [queries, keys, values] as const;
  const stacked = queries + keys + values;
  const joined =
    table.joined === undefined || has("q_proj.weight")
      ? null
      : weights.entry(`${prefix}.${table.joined}.weight`, [stacked, hiddenSize], because);
  const input = (part: 0 | 1 | 2, name: string, outputs: number = widths[part]): LinearDescription => {
    if (joined === null) return linear(name, hiddenSize, outputs, inputBias);
    const first = [0, queries, queries + keys][part]! * hiddenSize;
    return { weight: weights.slice(joined, first, [widths[part], hiddenSize]), bias: null, layout: "out-in" };
  };
  const norm = (name: string, projection: number) =>
    weights.norm(
      norms?.kind ?? "rms",
      `${prefix}.${name}`,
      norms?.scope === "projection" ? projection : headDim,
      normEpsilon,
      because,
    );
  return {
    kind: "grouped-query",
    numHeads,
    numKeyValueHeads,
    headDim,
    valueHeadDim,
    scale,
    rotary,
    positionScale: table.positionScale?.(config, rotary !== null) ?? null,
    slidingWindow,
    indexer: table.indexer?.(context, layer, prefix) ?? null,
    query: input(0, "q_proj", typeof table.outputGate === "object" ? 2 * queries : queries),
    key: input(1, "k_proj"),
    value: table.keysAreValues ? "key" : input(2, "v_proj"),
    ...(table.valueNorm === undefined
      ? {}
      : { valueNorm: weights.norm(table.valueNorm, `${prefix}.v_norm`, valueHeadDim, normEpsilon, because) }),
    output: linear(table.output ?? "o_proj", numHeads * valueHeadDim, hiddenSize, outputBias),
    queryNorm: norms ? norm(norms.query, queries) : null,
    keyNorm: norms ? norm(norms.key, keys) : null,
    normScope: norms?.scope ?? "head",
    normAfterRotary: norms?.afterRotary ?? false,
    clip,
    ...(softcap === null ? {} : { softcap }),
    sinks: table.sinks?.in(slidingWindow) ? weights.view(sinkName(table.sinks.names), [numHeads], because) : null,
    valueScale,
    outputGate: outputGate(table.outputGate),
  };

  function outputGate(name: GroupedQueryTable["outputGate"]): GroupedQueryAttention["outputGate"] {
    if (name === undefined) return null;
    return typeof name === "object" ? "in-query" : linear(name, hiddenSize, numHeads * valueHeadDim, false);
  }

  function sinkName([first, ...others]: readonly [string, ...string[]]): string {
    return weights.firstOf(`${prefix}.${first}`, ...others.map((name) => `${prefix}.${name}`));
  }
}
