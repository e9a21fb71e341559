import { sliceSequences, type TokenSequences } from "../data/sequences";
import type { TokenBatch } from "./modelExecutor";

/** Token ids of all sequences, and which of them are padding. */
export function tokenBatch(sequences: TokenSequences): TokenBatch {
  const { ids, numSequences, sequenceLength, lengths } = sequences;
  if (lengths.every((length) => length === sequenceLength)) return { ids };
  const valid = new Uint8Array(ids.length);
  for (let s = 0; s < numSequences; s++) valid.fill(1, s * sequenceLength, s * sequenceLength + lengths[s]!);
  return { ids, valid };
}

/** The next token of every position, and which positions have one: not the last of a sequence, not padding. */
export function nextTokens({ ids, numSequences, sequenceLength, lengths }: TokenSequences) {
  const labels = new Int32Array(ids.length);
  const isTarget = new Uint8Array(ids.length);
  for (let s = 0; s < numSequences; s++) {
    const first = s * sequenceLength;
    for (let i = 0; i + 1 < lengths[s]!; i++) {
      labels[first + i] = ids[first + i + 1]!;
      isTarget[first + i] = 1;
    }
  }
  return { labels, isTarget };
}

/** The sequences with the given numbers, in that order. */
export function pickSequences(all: TokenSequences, numbers: ArrayLike<number>): TokenSequences {
  const { sequenceLength } = all;
  const picked = sliceSequences(all, 0, 0);
  const ids = new Int32Array(numbers.length * sequenceLength);
  const domainIds = new Uint8Array(ids.length);
  const documentIds = new Int32Array(all.documentIds ? ids.length : 0);
  const lengths = new Int32Array(numbers.length);
  for (let i = 0; i < numbers.length; i++) {
    const from = numbers[i]! * sequenceLength;
    ids.set(all.ids.subarray(from, from + sequenceLength), i * sequenceLength);
    domainIds.set(all.domainIds.subarray(from, from + sequenceLength), i * sequenceLength);
    if (all.documentIds) documentIds.set(all.documentIds.subarray(from, from + sequenceLength), i * sequenceLength);
    lengths[i] = all.lengths[numbers[i]!]!;
  }
  const documents = all.documentIds ? { documentIds } : {};
  return { ...picked, ids, domainIds, ...documents, lengths, numSequences: numbers.length };
}
