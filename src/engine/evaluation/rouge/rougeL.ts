import { stemOf } from "./porterStemmer";

export interface RougeL {
  precision: number;
  recall: number;
  f: number;
}

/**
 * ROUGE-L of a text against a reference (Lin 2004), as rouge_score computes it with its stemmer: the longest common
 * subsequence of both lists of words, as a share of the text's (precision) and the reference's (recall), and their harmonic
 * mean. Words are runs of a-z and 0-9 in lower case, stemmed where they have more than three letters; a text in another script
 * has none, and scores 0.
 */
export function rougeL(reference: string, text: string): RougeL {
  const [a, b] = [rougeWords(reference), rougeWords(text)];
  const common = commonSubsequence(a, b);
  if (common === 0) return { precision: 0, recall: 0, f: 0 };
  const [precision, recall] = [common / b.length, common / a.length];
  return { precision, recall, f: (2 * precision * recall) / (precision + recall) };
}

/** Of several references, the one that fits best. */
export function bestRougeL(references: readonly string[], text: string): RougeL {
  return references.map((reference) => rougeL(reference, text)).reduce((best, one) => (one.f > best.f ? one : best));
}

export function rougeWords(text: string): string[] {
  const words = text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  return words.map((word) => (word.length > 3 ? stemOf(word) : word));
}

/** Length of the longest list that is part of both, in order. */
function commonSubsequence(a: readonly string[], b: readonly string[]): number {
  const row = new Int32Array(b.length + 1);
  for (const word of a) {
    let diagonal = 0;
    for (let j = 1; j <= b.length; j++) {
      const above = row[j]!;
      row[j] = word === b[j - 1] ? diagonal + 1 : Math.max(above, row[j - 1]!);
      diagonal = above;
    }
  }
  return row[b.length]!;
}
