import { throwIfCancelled } from "../../protocol/errors";
import { checkIds, endOfTextIdOf, minTokensOfSequence, type BuildSequencesOptions } from "./buildSequences";
import { readDocuments } from "./documents";
import { encodePrefix } from "./encodePrefix";

/** How much of what was asked for a text gives. */
export interface TextAmount {
  /** At most the number asked for. */
  sequences: number;
  tokens: number;
  /** False where the text behind the first tokens was only measured by its length. */
  isExact: boolean;
}

/** Tokens that are counted one by one: about half a second of a fast tokenizer. */
const countedTokens = 2 ** 17;

/**
 * Counts the sequences that {@link buildSequences} would find, without keeping any. Reads as far as they reach; what lies
 * behind the first {@link countedTokens} tokens is not tokenised but estimated at their rate of tokens a character.
 *
 * @throws what buildSequences raises for a text or tokenizer that cannot be used, but not `data/too-few-tokens`
 */
export async function countSequences({
  path,
  tokenizer,
  vocabSize,
  sequences,
  sequenceLength,
  packing,
  signal,
}: BuildSequencesOptions): Promise<TextAmount> {
  const isPacked = packing === "packed";
  const separators = isPacked ? [endOfTextIdOf(tokenizer, path)] : [];
  let counted = { tokens: 0, characters: 0 };
  let tokens = 0;
  let documents = 0;
  for await (const { text } of readDocuments(path)) {
    throwIfCancelled(signal);
    if (counted.tokens < countedTokens) {
      const needed = isPacked ? sequences * sequenceLength - tokens : sequenceLength;
      const ids = encodePrefix(tokenizer, text, needed);
      const piece = Int32Array.from([...(isPacked ? ids : ids.subarray(0, sequenceLength)), ...separators]);
      checkIds(piece, vocabSize, path, tokens);
      counted = { tokens: counted.tokens + piece.length, characters: counted.characters + text.length };
      tokens += piece.length;
      if (piece.length >= minTokensOfSequence) documents++;
    } else {
      tokens += text.length * (counted.tokens / counted.characters);
      documents++;
    }
    if ((isPacked ? tokens / sequenceLength : documents) >= sequences) break;
  }
  const found = isPacked ? Math.floor(tokens / sequenceLength) : documents;
  return {
    sequences: Math.min(sequences, found),
    tokens: Math.floor(tokens),
    isExact: counted.tokens < countedTokens || tokens === counted.tokens,
  };
}
