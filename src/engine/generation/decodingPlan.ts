import { RerouteError } from "../../protocol/errors";
import { formatBytes } from "../../protocol/quantities";
import { overheadOf, requireSequenceFits, totalElements } from "../execution/memoryPlan";
import type { SessionLimits } from "../execution/sessionCache";
import type { AttentionDescription, LayerDescription, ModelDescription } from "../model/description";
import { pastNumbers } from "./layerPast";

/** How a batch is decoded so that it stays inside the budget. Depends on nothing but its arguments. */
export interface DecodingPlan extends SessionLimits {
  /** Tokens that no sequence exceeds, its prompt included. */
  lengthLimit: number;
  /** Sequences that are decoded together. */
  rows: number;
  /** What each of them keeps at that length, in all layers. */
  pastBytesPerSequence: number;
  /**
   * Experts that are compiled as one graph. Where weights are widened in each run, those of a whole graph are, and a token
   * needs few of them: then each expert is one of its own, which runs only if it has a token.
   */
  expertsPerGraph?: number;
  /** New tokens that a sequence brings to one run at most. */
  mostPromptTokens: number;
  /** Positions that one run of the vocabulary head takes. */
  headPositions: number;
  /** What one run of a layer may take, and what it takes of a sequence's `s` new tokens that see `n`. */
  runBytes: number;
  runBytesPerSequence: (s: number, n: number) => number;
}

/** More rows a run no longer make the products faster, and scores grow with their number. */
const mostPromptTokens = 128;

/** New tokens of each sequence in one run, for prompts of up to `longest` tokens. */
export function promptChunk({ mostPromptTokens: most }: DecodingPlan, longest: number): number {
  return Math.min(most, 2 ** Math.ceil(Math.log2(Math.max(1, longest))));
}

/**
 * @param wanted sequences that there are
 * @throws RerouteError model/unsupported-option for lengths that this model's positions do not have, preflight/memory
 */
export function planDecoding(
  description: ModelDescription,
  budgetBytes: number,
  lengthLimit: number,
  wanted: number,
): DecodingPlan {
  requireSequenceFits(description, lengthLimit);
  requirePositionsFit(description, lengthLimit);
  const usable = Math.max(0, budgetBytes - overheadOf(description, budgetBytes, "forward", undefined));
  const { vocabSize, hiddenSize, layers } = description;
  // A prompt and a single token share a graph, so there is one copy of each weight; the embedding's is only counted.
  const copies = 4 * (totalElements(description) + vocabSize * hiddenSize);
  const keepFloat32Weights = copies <= usable * keptShare;
  const runBytes = usable * runShare;
  // Graphs that make room for others would be compiled again in each step.
  const graphs = usable * (keepFloat32Weights ? 0.1 : 0.25);
  const sessionBytes = graphs + (keepFloat32Weights ? copies : 0);
  const pastBytesPerSequence = 4 * layers.reduce((sum, { attention }) => sum + pastNumbers(attention, lengthLimit), 0);
  const largestLayer = 4 * Math.max(...layers.map(({ attention }) => pastNumbers(attention, lengthLimit)));
  // While a layer's past grows, it is there twice; hidden states of whole prompts wait between layers; logits of all
  // sequences are one array.
  const perRow = pastBytesPerSequence + largestLayer + 4 * hiddenSize * lengthLimit + 8 * vocabSize;
  const rows = Math.min(wanted, Math.floor((usable - sessionBytes - runBytes) / perRow));
  if (rows < 1) {
    const needed = budgetBytes + perRow - (usable - sessionBytes - runBytes);
    throw new RerouteError(
      "preflight/memory",
      `A sequence of ${lengthLimit} tokens keeps ${formatBytes(pastBytesPerSequence)} of keys, values and states, which does not fit ` +
        `the memory budget of ${formatBytes(budgetBytes)}; give about ${formatBytes(needed)} (--memory), or ask for fewer new tokens`,
    );
  }
  return {
    ...{ keepFloat32Weights, sessionBytes, lengthLimit, rows, pastBytesPerSequence, runBytes, mostPromptTokens },
    ...(keepFloat32Weights ? {} : { expertsPerGraph: 1 }),
    headPositions: Math.max(1, Math.min(2048, Math.floor(runBytes / (12 * vocabSize)))),
    runBytesPerSequence: (s, n) => Math.max(...layers.map((layer) => runNumbers(layer, hiddenSize, s, n))) * 4,
  };
}

/** Shares of what the process itself leaves: copies of half-precision weights, and one run. */
const keptShare = 0.6;
const runShare = 0.15;

/** Numbers that a layer's run holds at once for a sequence. */
function runNumbers({ attention, feedForward }: LayerDescription, hidden: number, s: number, n: number): number {
  const experts =
    feedForward.kind === "moe"
      ? 2 * feedForward.numExpertsPerToken * hidden + 4 * (feedForward.shared?.mlp.intermediateSize ?? 0)
      : 4 * feedForward.intermediateSize;
  return 3 * scores(attention) * s * n + s * (3 * widths(attention) + 8 * hidden + experts);
}

function scores(attention: AttentionDescription): number {
  return "numHeads" in attention ? attention.numHeads : 0;
}

function widths(attention: AttentionDescription): number {
  switch (attention.kind) {
    case "grouped-query":
      return (
        attention.numHeads * attention.headDim +
        attention.numKeyValueHeads * (attention.headDim + attention.valueHeadDim)
      );
    case "latent":
      return attention.numHeads * (2 * attention.kvLoraRank + attention.qkRopeHeadDim + attention.vHeadDim);
    case "gated-delta":
      return 4 * (attention.conv.shape[0]! + attention.numValueHeads * (attention.keyHeadDim + attention.valueHeadDim));
    case "short-conv":
      return 4 * attention.channels;
  }
}

/**
 * Refuses lengths at which the positions of all tokens would have to be turned anew, those of the past included.
 * @throws RerouteError model/unsupported-option
 */
function requirePositionsFit({ layers, family }: ModelDescription, lengthLimit: number): void {
  for (const { index, attention } of layers) {
    const scaling = "rotary" in attention ? attention.rotary?.scaling : undefined;
    if (scaling?.type !== "dynamic" && scaling?.type !== "longrope") continue;
    if (lengthLimit <= scaling.originalMaxPositionEmbeddings) continue;
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${index} of this ${family} checkpoint has rotary positions of type ${scaling.type}, whose frequencies change beyond ` +
        `${scaling.originalMaxPositionEmbeddings} tokens for all earlier tokens too, and prompt and new tokens come to ${lengthLimit}; ` +
        `stay below that with shorter prompts or fewer new tokens`,
    );
  }
}
