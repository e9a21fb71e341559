import { RerouteError } from "../../protocol/errors";
import { sliceSequences, type TokenSequences } from "./sequences";

/** Sequences to train on, and sequences that are only ever measured. */
export interface HeldOutSplit {
  training: TokenSequences;
  /** Null when nothing is held out. */
  heldOut: TokenSequences | null;
  /** Whether the held-out sequences begin inside a document that training reads, because no document begins behind it. */
  sharesDocument: boolean;
}

/** Sequences to hold out beside `trainingCount` training ones: the rounded fraction, 1 to `most` where it is above 0. */
export function heldOutCount(trainingCount: number, heldOutFraction: number, most: number): number {
  return heldOutFraction > 0 ? Math.max(1, Math.min(most, Math.round(trainingCount * heldOutFraction))) : 0;
}

/**
 * Splits sequences in file order. Ask the builder for `trainingCount + heldOutCount(trainingCount, heldOutFraction, most)` of them:
 * the held-out ones then lie *behind* the training ones, which stay the same whatever is held out. Where the text is too short
 * for that, all sequences but the last ones train: `heldOutCount` of the sequences present, never leaving training empty.
 * Sequences that continue the last training one's document are on neither side, unless nothing else is left.
 *
 * @param heldOutFraction in [0, 1), relative to `trainingCount`
 * @param most held-out sequences, at most
 * @throws `arguments/invalid` for a fraction outside [0, 1), `data/too-few-tokens` when one sequence would have to be both
 */
export function splitHeldOut(
  all: TokenSequences,
  trainingCount: number,
  heldOutFraction: number,
  most: number,
): HeldOutSplit {
  if (!(heldOutFraction >= 0 && heldOutFraction < 1)) {
    throw new RerouteError(
      "arguments/invalid",
      `the held-out fraction is ${heldOutFraction}, expected 0 or more and less than 1`,
    );
  }
  const wanted = heldOutCount(trainingCount, heldOutFraction, most);
  if (wanted === 0)
    return {
      training: sliceSequences(all, 0, Math.min(trainingCount, all.numSequences)),
      heldOut: null,
      sharesDocument: false,
    };
  if (all.numSequences < 2) {
    throw new RerouteError(
      "data/too-few-tokens",
      `the text gives ${all.numSequences} sequence of ${all.sequenceLength} tokens, but training and held-out sequences need at least 2. Add text, shorten the sequences or hold out nothing`,
    );
  }
  const behind = all.numSequences - trainingCount;
  const training =
    behind >= wanted ? trainingCount : all.numSequences - Math.min(most, carved(all.numSequences, heldOutFraction));
  const border = documentBorder(all, training);
  const start = border ?? training;
  return {
    training: sliceSequences(all, 0, training),
    heldOut: sliceSequences(all, start, Math.min(all.numSequences, start + wanted)),
    sharesDocument: border === null,
  };
}

/**
 * Up to `wanted` sequences behind the first `from`, from the next document's border on where there is one.
 * @throws `data/too-few-tokens` where there is none
 */
export function sequencesBehind(
  all: TokenSequences,
  from: number,
  wanted: number,
): { behind: TokenSequences; sharesDocument: boolean } {
  const border = all.numSequences > from ? documentBorder(all, from) : null;
  const start = border ?? from;
  if (all.numSequences <= start) {
    throw new RerouteError(
      "data/too-few-tokens",
      `the text gives ${all.numSequences} sequences of ${all.sequenceLength} tokens, of which the first ${from} are trained on: none is left to split off. Ask for fewer sequences or name another evaluation text`,
    );
  }
  const behind = sliceSequences(all, start, Math.min(all.numSequences, start + wanted));
  return { behind, sharesDocument: border === null };
}

/** The first sequence from `from` on that begins behind the document in which sequence `from - 1` ends; null where none does. */
function documentBorder({ documentIds, lengths, numSequences, sequenceLength }: TokenSequences, from: number) {
  if (documentIds === undefined) return from;
  const last = documentIds[(from - 1) * sequenceLength + lengths[from - 1]! - 1]!;
  for (let s = from; s < numSequences; s++) if (documentIds[s * sequenceLength]! > last) return s;
  return null;
}

/** Held-out share of `total` sequences such that heldOut = fraction * training. */
function carved(total: number, heldOutFraction: number): number {
  const share = Math.round((total * heldOutFraction) / (1 + heldOutFraction));
  return Math.min(total - 1, Math.max(1, share));
}
