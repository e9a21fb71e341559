import type { LayerDescription, ModelDescription } from "../model/description";
import { RerouteError } from "../../protocol/errors";
import { garbageAllowance } from "../runtime/garbage";
import { previewBytes } from "../model/previewProducts";
import { countParameters } from "../model/parameters";
import { elementCount } from "../tensor/dtype";
import { compiledBytes, compiledLayerBytes } from "./compiledBytes";
import { readsResidual } from "./expertGraphs";
import { moeLayers, numLogits } from "../model/moeLayers";
import { decodedSizes } from "./weightViews";
import {
  attentionBytes,
  expertRowsBytes,
  feedForwardBytes,
  headBytes,
  headFixedBytes,
  workingSetBytes,
  type Portions,
  type TrainedSizes,
} from "./workingSet";

/** How a batch is cut up so that the working set stays inside the budget. Depends on nothing but its arguments. */
export interface ExecutionPlan {
  /** Sequences that one attention run takes. */
  attentionSequences: number;
  /** Sequences that go through a layer together; one feed-forward run takes all their tokens. */
  chunkSequences: number;
  /** Positions that one run of the vocabulary head takes. */
  headPositions: number;
  /** Whether sessions keep f32 copies of half-precision weights: only for models far smaller than the budget. */
  keepFloat32Weights: boolean;
  /** Bytes of a layer's experts as 8-bit integers, kept while chunks go through it; 0: none, or graphs have them. */
  codeBytes: number;
  /** Bytes that compiled sessions may keep between runs. */
  sessionBytes: number;
  /** Bytes that hidden states may take before they spill to disk. */
  hiddenStateBytes: number;
  /** What is there whatever is cut: the process, routers with their moments, routing statistics, finished results. */
  overheadBytes: number;
}

/** Tokens beyond which more rows a run no longer make the products faster (measured flat from 4096 on). */
const maxChunkTokens = 8192;

/** Numbers in the logits of one run of the head: with 1 MB a Router KD loss was measured to take 0.6 of what 16 MB take. */
const cachedLogits = 2 ** 18;

export function planExecution(
  description: ModelDescription,
  sequenceLength: number,
  budgetBytes: number,
  direction: "forward" | "backward",
  trained?: TrainedSizes,
): ExecutionPlan {
  requireSequenceFits(description, sequenceLength);
  const overheadBytes = overheadOf(description, budgetBytes, direction, trained);
  const usable = Math.max(0, budgetBytes - overheadBytes);
  // Each of four sessions a layer may hold a copy.
  const copies = totalElements(description) * 16;
  const keepFloat32Weights = copies <= usable * 0.2;
  const codeBytes = keepFloat32Weights ? 0 : previewBytes(description);
  requireCodesFit(codeBytes, usable);
  const working = usable * workingShare - codeBytes;
  const work = { description, sequenceLength, direction, trained };
  const limit = Math.max(1, Math.floor(maxChunkTokens / sequenceLength));
  // A chunk's rows at its experts stay while attention and head run.
  const beside = (n: number) => working - expertRowsBytes(work, n);
  const least = Math.max(attentionBytes(work, 1), headBytes(work, leastHeadPositions));
  const chunkSequences = largest(limit, (n) => Math.max(feedForwardBytes(work, n), least) <= beside(n));
  const left = beside(chunkSequences);
  const attentionSequences = largest(limit, (n) => attentionBytes(work, n) <= Math.min(left, 1.5e9));
  // Widening the head costs the same whatever the positions; without it, logits that stay in a core's cache win.
  const mostPositions = keepFloat32Weights
    ? clamp(Math.floor(cachedLogits / description.vocabSize), leastHeadPositions, 2048)
    : 2048;
  const mostHeadBytes = Math.min(left, headFixedBytes(description, trained) + 1e9);
  const headPositions = largest(mostPositions, (n) => headBytes(work, n) <= mostHeadBytes);
  // One layer's graphs must stay while its chunks go through, even where hidden states then spill earlier.
  const largestLayer = Math.max(
    ...description.layers.map((layer) => compiledLayerBytes(layer, direction, sequenceLength)),
  );
  const graphs = Math.max(usable * sessionShare, Math.min(largestLayer, usable * 0.4));
  // Copies that did not stay would be made anew in each pass.
  const sessionBytes = Math.min(usable * 0.4, graphs + (keepFloat32Weights ? copies : 0));
  return {
    attentionSequences: Math.min(attentionSequences, chunkSequences),
    chunkSequences,
    headPositions,
    keepFloat32Weights,
    codeBytes,
    sessionBytes,
    hiddenStateBytes: Math.min(usable * 0.25, usable * (1 - workingShare) - sessionBytes),
    overheadBytes,
  };
}

/**
 * Share that compiled graphs may keep beside copies of weights. Compiling again costs a few percent of a pass, while with a quarter peak memory
 * went up with the layers until it was full (measured: 24 layers took 1.2 times the memory of 4).
 */
const sessionShare = 0.1;

/** Below this, the head's products are no longer worth calling for. */
const leastHeadPositions = 64;

/** Share of what is left beside the overhead that one graph run may take; sessions and hidden states share the rest. */
const workingShare = 0.5;

/** @throws RerouteError preflight/memory */
function requireCodesFit(codeBytes: number, usable: number): void {
  const most = (usable * workingShare) / 2;
  if (codeBytes <= most) return;
  const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;
  throw new RerouteError(
    "preflight/memory",
    `A preview keeps one layer's experts as 8-bit integers, ${mib(codeBytes)}, of which the memory budget has room for ${mib(most)}; ` +
      `give it ${mib(4 * (codeBytes - most))} more (--memory), or profile with precision exact`,
  );
}

/** The smallest budget whose plan fits one sequence at a time. */
export function smallestBudget(
  description: ModelDescription,
  sequenceLength: number,
  direction: "forward" | "backward",
  trained?: TrainedSizes,
): number {
  const portions = { attentionSequences: 1, chunkSequences: 1, headPositions: leastHeadPositions };
  const one = workingSetBytes({ description, sequenceLength, direction, trained }, portions);
  // The overhead grows with the budget, by less than a tenth: a few rounds settle it.
  let budget = 0;
  for (let round = 0; round < 12; round++)
    budget = one / workingShare + overheadOf(description, budget, direction, trained);
  return Math.ceil(budget);
}

/** What an update keeps of a token for its backward pass, f32: both blocks' inputs and the router logits of every layer. */
export function tapedBytesPerToken(description: ModelDescription): number {
  const logits = moeLayers(description).reduce((sum, { moe }) => sum + numLogits(moe), 0);
  const kept = 2 * description.layers.length + description.layers.filter(keepsResidual).length;
  return 4 * (kept * description.hiddenSize + logits);
}

/** Whether the backward pass of a layer's feed-forward half reads the hidden states behind attention. */
export function keepsResidual(layer: LayerDescription): boolean {
  return layer.feedForward.kind === "moe" && readsResidual(layer, layer.feedForward);
}

/** Node, onnxruntime and this program before any model work (measured: 125 to 150 MB). */
export const baseProcessBytes = 150e6;

/**
 * What the allocator of the C library keeps of freed blocks below 32 MB, measured on models of small width, where all
 * blocks are that small.
 */
const keptByAllocatorBytes = 100e6;

/**
 * What training keeps of every trained number, f32: masters, both moments, gradients, the best step's copy, and one copy
 * while the state is written or read.
 */
export const trainingBytesPerNumber = 6 * 4;

export function overheadOf(
  description: ModelDescription,
  budgetBytes: number,
  direction: "forward" | "backward",
  trained: TrainedSizes | undefined,
): number {
  let routers = 0;
  let statistics = 0;
  let largestLayer = 0;
  for (const { feedForward } of description.layers) {
    if (feedForward.kind !== "moe") continue;
    const { numExperts } = feedForward;
    routers += elementCount(feedForward.router.weight.shape);
    // Outer products of router logits and sums of outputs, in float64; the rest is a few numbers an expert.
    const ofLayer = 8 * numExperts * (numExperts + description.hiddenSize + 16);
    statistics += ofLayer;
    largestLayer = Math.max(largestLayer, ofLayer);
  }
  // Of the layer at hand, the leaf's and the tree's over the leaves of a block.
  statistics += 5 * largestLayer;
  const held =
    direction === "backward" ? trainingBytesPerNumber * (trained?.total ?? routers) : 4 * routers + statistics;
  return baseProcessBytes + keptByAllocatorBytes + garbageAllowance(budgetBytes) + held;
}

/** Compiled sessions with their f32 copies of the weights, as far as the plan has room for them. */
export function sessionsMemory(
  plan: Pick<ExecutionPlan, "keepFloat32Weights" | "sessionBytes">,
  model: ModelDescription,
  direction: "forward" | "backward",
  sequenceLength: number,
): number {
  const copies = plan.keepFloat32Weights ? 2 * 4 * countParameters(model).total : 0;
  return Math.min(copies + compiledBytes(model, direction, sequenceLength), plan.sessionBytes);
}

/** How much of a plan's portions so many sequences fill. */
export function portionsOf(plan: Portions, sequences: number, sequenceLength: number): Portions {
  return {
    attentionSequences: Math.min(plan.attentionSequences, sequences),
    chunkSequences: Math.min(plan.chunkSequences, sequences),
    headPositions: Math.min(plan.headPositions, sequences * sequenceLength),
  };
}

/** Numbers in the weights of all layers and the vocabulary head, decoded. */
export function totalElements(description: ModelDescription): number {
  const sizes = description.layers.flatMap(decodedSizes);
  return sizes.reduce((sum, size) => sum + size, description.vocabSize * description.hiddenSize);
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** The largest n in [1, limit] that fits; 1 where none does (the pre-flight has refused that budget). */
function largest(limit: number, fits: (n: number) => boolean): number {
  let n = Math.max(1, limit);
  while (n > 1 && !fits(n)) n = Math.max(1, Math.floor(n * 0.75));
  return n;
}

/**
 * Refuses sequences in which an index branch would leave positions out: Reroute attends to all of them.
 * @throws RerouteError model/unsupported-option
 */
export function requireSequenceFits({ layers, family }: ModelDescription, sequenceLength: number): void {
  for (const { index, attention } of layers) {
    const indexer = "indexer" in attention ? attention.indexer : null;
    if (indexer === null || sequenceLength <= indexer.positions) continue;
    throw new RerouteError(
      "model/unsupported-option",
      `Layer ${index} of this ${family} checkpoint chooses which positions a query sees (config.json says ${indexer.because}), ` +
        `which Reroute computes exactly for sequences of up to ${indexer.positions} tokens, and was asked for ` +
        `${sequenceLength}; use sequences of at most ${indexer.positions} tokens`,
    );
  }
}
