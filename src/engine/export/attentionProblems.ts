import type {
  GroupedQueryAttention,
  LatentAttention,
  LayerDescription,
  NormDescription,
  RotaryDescription,
  SoftmaxAttention,
} from "../model/description";
import type { GroupedQueryRules, LlamaArchitecture } from "./architectures";

/** What is wrong with a model, by what is looked at; false: nothing. */
export type Problems = readonly (readonly [isWrong: boolean, what: string])[];

/** What of a layer's attention an architecture would compute otherwise. */
export function attentionProblems(
  architecture: LlamaArchitecture,
  first: SoftmaxAttention,
  { attention, index, inputNorm }: LayerDescription,
  numLayers: number,
): Problems {
  if (attention.kind === "latent" && first.kind === "latent") {
    const isOther = ({ epsilon }: NormDescription) => epsilon !== inputNorm?.epsilon;
    return [
      ...latentProblems(first, attention, index, numLayers),
      // llama.cpp has one epsilon for all norms of a model.
      [isOther(attention.keyValueNorm), "another epsilon in the norms inside attention than in the others"],
    ];
  }
  if (attention.kind !== "grouped-query" || first.kind !== "grouped-query" || architecture.attention === "latent")
    return [[true, `attention of the kind ${attention.kind}`]];
  return groupedQueryProblems(architecture, architecture.attention, first, attention, index);
}

function groupedQueryProblems(
  { pairing, multipliers }: LlamaArchitecture,
  allowed: GroupedQueryRules,
  first: GroupedQueryAttention,
  attention: GroupedQueryAttention,
  index: number,
): Problems {
  const { query, key, value, rotary, queryNorm, keyNorm, headDim, slidingWindow } = attention;
  const biases = [query.bias, key.bias, value === "key" ? null : value.bias];
  const isScaled = Math.abs(attention.scale * Math.sqrt(headDim) - 1) > 1e-6;
  const hasNorms = queryNorm !== null || keyNorm !== null;
  const sizes = (of: GroupedQueryAttention) =>
    [of.numHeads, of.numKeyValueHeads, of.headDim, of.valueHeadDim, of.scale, JSON.stringify(of.rotary)].join();
  const window = allowed.sinksAndWindows && index % 2 === 0 ? first.slidingWindow : null;
  return [
    [sizes(attention) !== sizes(first), `attention unlike layer 0's (layer ${index})`],
    [value === "key" || attention.valueNorm !== undefined, "values that are keys, or normalised"],
    [allowed.bias === "none" && biases.some((bias) => bias !== null), "a bias of queries, keys or values"],
    [allowed.bias === "required" && biases.includes(null), "no bias of queries, keys and values"],
    [allowed.outputBias === "none" && attention.output.bias !== null, "a bias of attention's output"],
    [allowed.outputBias === "required" && attention.output.bias === null, "no bias of attention's output"],
    [allowed.norms === "none" && hasNorms, "norms of queries and keys"],
    [hasNorms && attention.normScope !== allowed.norms, `norms of queries and keys over each ${attention.normScope}`],
    [allowed.norms !== "none" && !allowed.normsAreOptional && !hasNorms, "no norms of queries and keys"],
    [hasNorms && !(isPlainNorm(queryNorm) && isPlainNorm(keyNorm)), "norms of queries and keys other than RMSNorm"],
    [
      allowed.equalHeads === true && attention.numKeyValueHeads !== attention.numHeads,
      "fewer heads of keys than of queries",
    ],
    [attention.normAfterRotary, "norms behind the rotation"],
    [slidingWindow !== window || attention.chunk !== undefined, "a window of attention, or another one"],
    [allowed.sinksAndWindows === true && first.slidingWindow === null, "no window of attention in its first layer"],
    [attention.softcap !== undefined || attention.clip !== null, "clamped projections or capped scores"],
    [(attention.sinks !== null) !== (allowed.sinksAndWindows ?? false), "sinks of attention, or none"],
    [attention.outputGate !== null, "a gate of attention"],
    [attention.valueScale !== 1, "multiplied values"],
    [!multipliers && isScaled, `an attention scale of ${attention.scale}`],
    ...positionProblems(attention),
    [rotary?.pairing === "interleaved" && pairing === "half", "interleaved rotary positions"],
    [rotary?.pairing !== pairing && rotary?.dims !== headDim, "rotary positions of a part of each head"],
    [!hasMagnitude(rotary, 1), "another attention factor than YaRN's own"],
  ];
}

/** Layers by which llama.cpp knows DeepSeek-V2-Lite, whose queries are not compressed. */
const liteLayers = [26, 27];

function latentProblems(first: LatentAttention, attention: LatentAttention, index: number, layers: number): Problems {
  const { query, keyValueDown, keyValueNorm, output, rotary } = attention;
  const isCompressed = "down" in query;
  const sizes = (of: LatentAttention) => [
    of.numHeads,
    of.qkNopeHeadDim,
    of.qkRopeHeadDim,
    of.vHeadDim,
    of.kvLoraRank,
    of.scale,
    JSON.stringify(of.rotary),
  ];
  const biases = [keyValueDown.bias, output.bias, isCompressed ? query.down.bias : query.bias];
  return [
    [sizes(attention).join() !== sizes(first).join(), `attention unlike layer 0's (layer ${index})`],
    [biases.some((bias) => bias !== null), "biases of attention"],
    [attention.slidingWindow !== null || attention.chunk !== undefined, "a window of attention"],
    ...positionProblems(attention),
    [
      isCompressed === liteLayers.includes(layers),
      isCompressed
        ? `compressed queries in ${layers} layers, where llama.cpp expects DeepSeek-V2-Lite's`
        : `queries that are not compressed in ${layers} layers (llama.cpp takes them for 26 and 27)`,
    ],
    [rotary?.pairing !== "interleaved", "rotary positions of half-heads"],
    [!isPlainNorm(keyValueNorm) || (isCompressed && !isPlainNorm(query.norm)), "norms other than RMSNorm"],
    [magnitudeShare(attention) === null, "an attention scale or factor that YaRN's magnitude does not give"],
  ];
}

function positionProblems({ rotary, positionScale, indexer }: SoftmaxAttention): Problems {
  return [
    [positionScale !== null || indexer !== null, "positions that are stretched or chosen"],
    [rotary === null, "no rotary positions"],
    [
      rotary !== null && !["default", "linear", "yarn"].includes(rotary.scaling.type),
      `${rotary?.scaling.type} positions`,
    ],
  ];
}

/** YaRN's magnitude for a stretch, times a share m of it: 1 + 0.1 m ln(factor). */
function magnitude(factor: number, share: number): number {
  return factor <= 1 ? 1 : 1 + 0.1 * share * Math.log(factor);
}

/** Whether cos and sin are multiplied by what llama.cpp multiplies them by. */
function hasMagnitude(rotary: RotaryDescription | null, share: number): boolean {
  if (rotary?.scaling.type !== "yarn") return true;
  const { factor, attentionFactor } = rotary.scaling;
  return Math.abs(attentionFactor - magnitude(factor, share)) < 1e-5;
}

/**
 * DeepSeek's `mscale_all_dim`, by whose magnitude, squared, it multiplies scores: read back from the scale, 0 without YaRN. null:
 * no number gives the scale, or cos and sin are multiplied beside it, which llama.cpp would do to all of a head.
 */
export function magnitudeShare({ scale, qkNopeHeadDim, qkRopeHeadDim, rotary }: LatentAttention): number | null {
  const root = Math.sqrt(scale * Math.sqrt(qkNopeHeadDim + qkRopeHeadDim));
  if (rotary?.scaling.type !== "yarn") return Math.abs(root - 1) < 1e-6 ? 0 : null;
  const { factor } = rotary.scaling;
  if (factor <= 1 || root - 1 < 1e-6 || !hasMagnitude(rotary, 0)) return null;
  return (root - 1) / (0.1 * Math.log(factor));
}

export function isPlainNorm(norm: NormDescription | null): boolean {
  return norm?.kind === "rms" && norm.weight !== null && norm.bias === null;
}
