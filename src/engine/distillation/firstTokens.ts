import { sliceSequences, type TokenSequences } from "../data/sequences";

/** Enough for counts and Gram matrices of the widest models (32 tokens a column at width 2048), in one pass. */
const maxTokens = 65_536;

/** The training sequences that a calibration looks at before it begins: whole ones, up to 65,536 tokens. */
export function firstTokens(sequences: TokenSequences): TokenSequences {
  const count = Math.max(1, Math.floor(maxTokens / sequences.sequenceLength));
  return count < sequences.numSequences ? sliceSequences(sequences, 0, count) : sequences;
}
