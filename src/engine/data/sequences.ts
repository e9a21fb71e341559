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
  /** Domain of each token as an index into `domainNames`, same layout as `ids`. */
  domainIds: Uint8Array;
  domainNames: string[];
  /** SHA-256 of the text file's bytes, hex. */
  sourceSha256: string;
}

/** Sequences [from, to) as a view-free copy. */
export function sliceSequences(all: TokenSequences, from: number, to: number): TokenSequences {
  const { sequenceLength } = all;
  return {
    ...all,
    ids: all.ids.slice(from * sequenceLength, to * sequenceLength),
    lengths: all.lengths.slice(from, to),
    domainIds: all.domainIds.slice(from * sequenceLength, to * sequenceLength),
    numSequences: to - from,
  };
}
