import { readTokenizerFiles } from "./tokenizerFiles";

/** Where two tokenizers differ, in words; null where they turn every text into the same ids. */
export type TokenizerDifference = string | null;

/**
 * Compares the tokenizers of two folders by content: every token and its id, merges and scores, and how text is normalised and
 * cut before them. What only decoding needs is left out.
 *
 * @throws RerouteError data/tokenizer where a folder has none that can be read
 */
export async function tokenizerDifference(a: string, b: string): Promise<TokenizerDifference> {
  const [first, second] = [await readTokenizerFiles(a), await readTokenizerFiles(b)];
  const ids = new Map(first.vocabulary.map(([id, token]) => [token, id]));
  if (ids.size !== new Set(second.vocabulary.map(([, token]) => token)).size)
    return `${ids.size} tokens and ${second.vocabulary.length}`;
  for (const [id, token] of second.vocabulary) {
    const found = ids.get(token);
    if (found === id) continue;
    const name = JSON.stringify(token.slice(0, 40));
    return found === undefined ? `the token ${name} is only in the second` : `the token ${name} is ${found} and ${id}`;
  }
  const sections = new Set([...Object.keys(first.definition), ...Object.keys(second.definition)]);
  for (const section of sections) {
    if (section === "added_tokens") continue;
    if (comparable(first.definition[section]) !== comparable(second.definition[section]))
      return `the section "${section}" of tokenizer.json`;
  }
  return null;
}

/** Of a section what changes ids: tokens are compared apart, and merges are written as pairs or as words. */
function comparable(section: unknown): string {
  return JSON.stringify(section, (key, value: unknown) => {
    if (key === "vocab" && !Array.isArray(value)) return undefined;
    if (key !== "merges" || !Array.isArray(value)) return value;
    return value.map((merge: unknown) => (Array.isArray(merge) ? merge.join(" ") : merge));
  });
}
