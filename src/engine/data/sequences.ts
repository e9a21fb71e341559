/**
 * Token sequences of equal stored length, ready to run. Positions at and beyond `lengths[s]` are padding: they are never
 * counted, and causal attention keeps them from touching anything before them.
 */
export interface TokenSequences {
  /** [numSequences * sequenceLength], row-major. */
  ids: Int32Array;
  numSequences: number;
  sequenceLength: number;
  /** Valid tokens of each sequence; `sequenceLength` everywhere when packed. */
  lengths: Int32Array;
  /**
   * Tokens at the beginning of each sequence that nothing is learned from or measured on: those that it answers. Absent: every
   * token but the first is predicted.
   */
  promptLengths?: Int32Array;
  /** Domain of each token as an index into `domainNames`, same layout as `ids`. */
  domainIds: Uint8Array;
  domainNames: string[];
  /**
   * Document of each token, numbered in file order, same layout as `ids`; a padded sequence is all of its document. Absent where
   * nothing is known of documents: each sequence then counts as one of its own.
   */
  documentIds?: Int32Array;
  /** SHA-256 of the text file's bytes, hex. */
  sourceSha256: string;
}

/** What a model reads of sequences: with the model, it decides everything computed from them (checkpoint/contentKey.ts). */
export function tokensRead(
  sequences: TokenSequences,
): Pick<TokenSequences, "ids" | "lengths" | "sequenceLength" | "promptLengths"> {
  const { ids, lengths, sequenceLength, promptLengths } = sequences;
  return { ids, lengths, sequenceLength, ...(promptLengths ? { promptLengths } : {}) };
}

/** The same with the domains and documents that results are counted by. */
export function textRead(sequences: TokenSequences) {
  const { domainIds, domainNames, documentIds } = sequences;
  return { ...tokensRead(sequences), domainIds, domainNames, documentIds };
}

/** Sequences [from, to) as a view-free copy. */
export function sliceSequences(all: TokenSequences, from: number, to: number): TokenSequences {
  const { sequenceLength, documentIds, promptLengths } = all;
  return {
    ...all,
    ids: all.ids.slice(from * sequenceLength, to * sequenceLength),
    lengths: all.lengths.slice(from, to),
    ...(promptLengths ? { promptLengths: promptLengths.slice(from, to) } : {}),
    domainIds: all.domainIds.slice(from * sequenceLength, to * sequenceLength),
    ...(documentIds ? { documentIds: documentIds.slice(from * sequenceLength, to * sequenceLength) } : {}),
    numSequences: to - from,
  };
}

/**
 * [numSequences], from 0 on: which sequences are one unit of text. Each belongs to the document that most of its tokens are of,
 * the first of several; so a document that spans several sequences is one unit, and sequences of many short ones are one each.
 */
export function textUnits({ documentIds, lengths, numSequences, sequenceLength }: TokenSequences): Int32Array {
  if (documentIds === undefined) return Int32Array.from({ length: numSequences }, (_, s) => s);
  const numbers = new Map<number, number>();
  return Int32Array.from({ length: numSequences }, (_, s) => {
    const counts = new Map<number, number>();
    for (const document of documentIds.subarray(s * sequenceLength, s * sequenceLength + lengths[s]!))
      counts.set(document, (counts.get(document) ?? 0) + 1);
    const [main] = [...counts].reduce((most, entry) => (entry[1] > most[1] ? entry : most));
    if (!numbers.has(main)) numbers.set(main, numbers.size);
    return numbers.get(main)!;
  });
}
