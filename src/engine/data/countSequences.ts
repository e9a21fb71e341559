import { throwIfCancelled } from "../../protocol/errors";
import { minTokensOfSequence, type BuildSequencesOptions } from "./buildSequences";
import { documentEncoder } from "./documentEncoder";
import { readDocuments } from "./documents";

/** How much of what was asked for a text gives. */
export interface TextAmount {
  /** At most the number asked for. */
  sequences: number;
  tokens: number;
  /** Documents that give a sequence, or, packed, tokens to one. */
  documents: number;
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
export async function countSequences(options: BuildSequencesOptions): Promise<TextAmount> {
  const { path, sequences, sequenceLength, packing, signal } = options;
  const isPacked = packing === "packed";
  const encoder = documentEncoder(options);
  let counted = { tokens: 0, characters: 0 };
  let tokens = 0;
  let documents = 0;
  const splitsAnswers = packing === "responses";
  for await (const document of readDocuments(path, { ...options, splitsAnswers })) {
    throwIfCancelled(signal);
    // Ready ids count as what they are.
    const characters = "text" in document ? document.text.length : document.ids.length;
    if (counted.tokens < countedTokens) {
      const needed = isPacked ? sequences * sequenceLength - tokens : sequenceLength;
      const { ids, promptLength } = await encoder.encodeParts(document, needed, tokens);
      const { length } = ids;
      counted = { tokens: counted.tokens + length, characters: counted.characters + characters };
      tokens += length;
      if (length >= (isPacked ? 1 : Math.max(minTokensOfSequence, promptLength + 1))) documents++;
    } else {
      tokens += characters * (counted.tokens / counted.characters);
      documents++;
    }
    if ((isPacked ? tokens / sequenceLength : documents) >= sequences) break;
  }
  const found = isPacked ? Math.floor(tokens / sequenceLength) : documents;
  return {
    sequences: Math.min(sequences, found),
    tokens: Math.floor(tokens),
    documents,
    isExact: counted.tokens < countedTokens || tokens === counted.tokens,
  };
}
