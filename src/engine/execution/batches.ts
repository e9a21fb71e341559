import { sliceSequences, type TokenSequences } from "../data/sequences";
import type { TokenBatch } from "./passOptions";

/** Token ids of all sequences, and which of them are padding. */
export function tokenBatch(sequences: TokenSequences): TokenBatch {
  const { ids, numSequences, sequenceLength, lengths } = sequences;
  if (lengths.every((length) => length === sequenceLength)) return { ids };
  const valid = new Uint8Array(ids.length);
  for (let s = 0; s < numSequences; s++) valid.fill(1, s * sequenceLength, s * sequenceLength + lengths[s]!);
  return { ids, valid };
}

/**
 * The next token of every position, and which positions count: not the last of a sequence, not padding, and of a sequence that
 * answers a prompt those that predict the answer.
 */
export function nextTokens({ ids, numSequences, sequenceLength, lengths, promptLengths }: TokenSequences) {
  const labels = new Int32Array(ids.length);
  const isTarget = new Uint8Array(ids.length);
  for (let s = 0; s < numSequences; s++) {
    const first = s * sequenceLength;
    for (let i = Math.max(0, (promptLengths?.[s] ?? 0) - 1); i + 1 < lengths[s]!; i++) {
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
  const prompts = all.promptLengths
    ? { promptLengths: Int32Array.from(numbers, (number) => all.promptLengths![number]!) }
    : {};
  return { ...picked, ids, domainIds, ...documents, ...prompts, lengths, numSequences: numbers.length };
}

/** One after another; domains and documents are those of the first. */
export function joinSequences(parts: readonly TokenSequences[]): TokenSequences {
  const [first] = parts;
  const joined = <T extends Int32Array | Uint8Array>(
    of: (part: TokenSequences) => T,
    result: (length: number) => T,
  ): T => {
    const all = result(parts.reduce((sum, part) => sum + of(part).length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(of(part), at);
      at += of(part).length;
    }
    return all;
  };
  const numbers = (length: number) => new Int32Array(length);
  const { documentIds: _, promptLengths, ...rest } = first!;
  return {
    ...rest,
    ids: joined(({ ids }) => ids, numbers),
    lengths: joined(({ lengths }) => lengths, numbers),
    ...(promptLengths ? { promptLengths: joined((part) => part.promptLengths!, numbers) } : {}),
    domainIds: joined(
      ({ domainIds }) => domainIds,
      (length) => new Uint8Array(length),
    ),
    numSequences: parts.reduce((sum, { numSequences }) => sum + numSequences, 0),
  };
}
