import type { Tokenizer } from "./tokenizer";

/** Up to this length a text is always tokenised whole. */
export const wholeTextCharacters = 2 ** 20;
/** Tokens before the cut that are not trusted: a cut inside a word changes the last tokens before it. */
const untrustedTokens = 4096;

/**
 * At least the first `needed` ids of a text, or all of them where it has fewer. Only of a text beyond
 * {@link wholeTextCharacters} is a beginning tokenised instead of everything: enough of it that the cut lies thousands of
 * tokens behind the last id that is used.
 */
export function encodePrefix(tokenizer: Pick<Tokenizer, "encode">, text: string, needed: number): Int32Array {
  for (let characters = wholeTextCharacters; characters < text.length; characters *= 2) {
    const ids = tokenizer.encode(text.slice(0, characters));
    if (ids.length >= needed + untrustedTokens) return ids.slice(0, needed);
  }
  return tokenizer.encode(text);
}
