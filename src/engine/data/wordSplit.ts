type Part = { [key: string]: unknown };

const spaceMark = "\u2581";

/**
 * Tokenizers of the Llama kind (Mixtral, Phi) merge over the whole text as if it were one word, which takes this library ten
 * times as long as words do, since nothing can be cached. Where no merge of the vocabulary can reach across the start of a
 * word, cutting there first gives the same ids: every token a merge makes is in the list of merges, and none of them has
 * something in front of a space mark.
 *
 * @returns the pre-tokenizer to use: the given one, with the cut added where it changes nothing
 */
export function withWordSplit(preTokenizer: Part | null, model: Part): Part | null {
  const wholeText = preTokenizer === null || (preTokenizer.type === "Metaspace" && preTokenizer.split === false);
  const mark = preTokenizer === null ? spaceMark : preTokenizer.replacement;
  if (!wholeText || mark !== spaceMark || !mergesWithinWords(model)) return preTokenizer;
  const words = `${spaceMark}*[^${spaceMark}]+|${spaceMark}+`;
  const cut = { type: "Split", pattern: { Regex: words }, behavior: "Removed", invert: true };
  return preTokenizer === null ? cut : { type: "Sequence", pretokenizers: [preTokenizer, cut] };
}

function mergesWithinWords(model: Part): boolean {
  const { type, merges, vocab, byte_fallback: byteFallback } = model;
  if (type !== "BPE" || byteFallback !== true || !Array.isArray(merges)) return false;
  // These look at whole pieces or their ends, so pieces may not be cut.
  if (model.ignore_merges === true || model.continuing_subword_prefix || model.end_of_word_suffix) return false;
  // Unknown characters would be fused across the cut; with all bytes in the vocabulary there are none.
  for (let byte = 0; byte < 256; byte++) {
    const token = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    if (!Object.hasOwn(vocab as object, token)) return false;
  }
  const crossing = new RegExp(`[^${spaceMark}]${spaceMark}`);
  return !merges.some((merge: string | [string, string]) => crossing.test(joined(merge)));
}

function joined(merge: string | [string, string]): string {
  return typeof merge === "string" ? merge.replace(" ", "") : merge.join("");
}
