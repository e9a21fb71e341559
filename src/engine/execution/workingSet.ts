import { queryBlockCount } from "../graph/blocks/attention";
import { gatedDeltaNumbersPerToken } from "../graph/blocks/gatedDelta";
import type { ModelDescription } from "../model/description";
import { expertGroups } from "./expertGroups";
import { moeLayers } from "../model/moeLayers";
import { decodedSizes } from "./weightViews";

/** What runs, as far as its memory goes. */
export interface Work {
  description: ModelDescription;
  sequenceLength: number;
  direction: "forward" | "backward";
  trained: TrainedSizes | undefined;
}

/** Numbers that train, where more than routers do. */
export interface TrainedSizes {
  total: number;
  /** Of the half of a layer that trains most: its gradients leave one run together. */
  largestBlock: number;
  /** Of final norm and vocabulary head. */
  head: number;
}

/** How much goes through one run of each kind of graph. */
export interface Portions {
  attentionSequences: number;
  /** Sequences whose tokens one feed-forward run takes. */
  chunkSequences: number;
  headPositions: number;
}

/** Peak bytes of the largest run and of the experts' rows, which outlive a run, without hidden states and sessions. */
export function workingSetBytes(work: Work, portions: Portions): number {
  const largestRun = Math.max(
    attentionBytes(work, portions.attentionSequences) + gradientBytes(work.trained?.largestBlock),
    feedForwardBytes(work, portions.chunkSequences),
    headBytes(work, portions.headPositions),
  );
  return largestRun + expertRowsBytes(work, portions.chunkSequences);
}

/** Bytes of the rows that the tokens of `sequences` have at their experts, f32. */
export function expertRowsBytes({ description, sequenceLength }: Work, sequences: number): number {
  const mostExperts = Math.max(0, ...moeLayers(description).map(({ moe }) => moe.numExpertsPerToken));
  return sequences * sequenceLength * mostExperts * description.hiddenSize * 4;
}

/** Bytes of one attention run over `sequences`, without the gradients of its weights. */
export function attentionBytes(work: Work, sequences: number): number {
  return directionFactor(work) * sequences * attentionBytesPerSequence(work);
}

/**
 * Bytes of one feed-forward run over the tokens of `sequences`, with its largest widened weight and the gradients that
 * train, without the experts' rows.
 */
export function feedForwardBytes(work: Work, sequences: number): number {
  const { description, sequenceLength, trained } = work;
  const rows = directionFactor(work) * sequences * sequenceLength * feedForwardBytesPerToken(description);
  return rows + largestWeightBytes(description) + gradientBytes(trained?.largestBlock);
}

/** Bytes of one run of the vocabulary head: seven arrays of [positions, vocabulary], f32, beside what is fixed. */
export function headBytes({ description, trained }: Work, positions: number): number {
  return headFixedBytes(description, trained) + positions * description.vocabSize * 4 * 7;
}

/** Of the vocabulary head, whatever the positions: its widened weights, and what training it takes. */
export function headFixedBytes(description: ModelDescription, trained: TrainedSizes | undefined): number {
  return headWeightBytes(description) + trainedHeadBytes(description, trained);
}

/** A backward run makes the forward run again and holds gradients beside its values (measured). */
function directionFactor({ direction }: Work): number {
  return direction === "backward" ? 2.2 : 1;
}

function attentionBytesPerSequence({ description, sequenceLength: s, direction }: Work): number {
  // A backward pass needs the probabilities of all blocks again.
  const scoredQueries = direction === "forward" ? s / queryBlockCount(s) : s;
  return Math.max(
    ...description.layers.map(({ attention }) => {
      const rows = 8 * description.hiddenSize;
      if (attention.kind === "short-conv") return 4 * s * (10 * attention.channels + rows);
      if (attention.kind === "gated-delta") return 4 * s * (gatedDeltaNumbersPerToken(attention, s) + rows);
      const headDims =
        attention.kind === "grouped-query"
          ? attention.numHeads * attention.headDim +
            attention.numKeyValueHeads * (attention.headDim + attention.valueHeadDim)
          : attention.numHeads * (2 * (attention.qkNopeHeadDim + attention.qkRopeHeadDim) + attention.vHeadDim);
      // Scores, masked scores and probabilities; projections before and after rotation; a few hidden-sized rows.
      return 4 * (3 * attention.numHeads * scoredQueries * s + s * (3 * headDims + rows));
    }),
  );
}

function feedForwardBytesPerToken(description: ModelDescription): number {
  const h = description.hiddenSize;
  return Math.max(
    ...description.layers.map(({ feedForward }) =>
      feedForward.kind === "moe"
        ? // A group's output rows before they come together, the gathered slots, and inputs and outputs of the block.
          4 *
          (feedForward.numExpertsPerToken * shareOfGroup(feedForward.numExperts) * h +
            8 * h +
            4 * (feedForward.shared?.mlp.intermediateSize ?? 0))
        : 4 * (6 * h + 4 * feedForward.intermediateSize),
    ),
  );
}

/** Of all rows, those at the experts of one group: twice their part, since routing favours some experts. */
function shareOfGroup(numExperts: number): number {
  return Math.min(1, 2 / expertGroups(numExperts).length);
}

/** f32 copies of one expert's (or one projection's) weights, which a run makes and drops one after another. */
function largestWeightBytes(description: ModelDescription): number {
  const sizes = description.layers.flatMap(decodedSizes);
  return 4 * 4 * sizes.reduce((largestSoFar, size) => Math.max(largestSoFar, size), 0);
}

/** Gradients of a block leave a run as its results, beside the buffers that they are added to. */
function gradientBytes(numbers = 0): number {
  return 2 * 4 * numbers;
}

/** A head that trains is no longer the teacher's: both are there, and the gradient. */
function trainedHeadBytes({ vocabSize, hiddenSize }: ModelDescription, trained: TrainedSizes | undefined): number {
  return trained === undefined || trained.head === 0 ? 0 : vocabSize * hiddenSize * 4 + gradientBytes(trained.head);
}

function headWeightBytes({ head, vocabSize, hiddenSize }: ModelDescription): number {
  return head.weight.dtype === "F32" ? 0 : vocabSize * hiddenSize * 4;
}
