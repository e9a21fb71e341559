/**
 * Porter's stemmer (Porter 1980, "An algorithm for suffix stripping") with the extensions that NLTK makes and rouge_score
 * uses: irregular words, -ies and -ied of four letters, y to i behind consonants only, -alli, -fulli, -bli and -logi.
 * @param word in lower case
 */
export function stemOf(word: string): string {
  const irregular = irregulars.get(word);
  if (irregular !== undefined) return irregular;
  if (word.length <= 2) return word;
  return steps.reduce((stem, step) => step(stem), word);
}

const irregulars = new Map(
  Object.entries({
    sky: ["sky", "skies"],
    die: ["dying"],
    lie: ["lying"],
    tie: ["tying"],
    news: ["news"],
    inning: ["inning", "innings"],
    outing: ["outing", "outings"],
    canning: ["canning", "cannings"],
    howe: ["howe"],
    proceed: ["proceed"],
    exceed: ["exceed"],
    succeed: ["succeed"],
  }).flatMap(([stem, words]) => words.map((word) => [word, stem] as const)),
);

/** A suffix, what replaces it, and whether it may, by what stands before it. */
type Rule = readonly [suffix: string, replacement: string, holds?: (stem: string) => boolean];

const positive = (stem: string) => measure(stem) > 0;
const aboveOne = (stem: string) => measure(stem) > 1;
const rulesOf = (pairs: Readonly<Record<string, string>>, holds: (stem: string) => boolean): Rule[] =>
  Object.entries(pairs).map(([suffix, replacement]) => [suffix, replacement, holds]);

const plurals: Rule[] = [
  ["sses", "ss"],
  ["ies", "i"],
  ["ss", "ss"],
  ["s", ""],
];

const suffixes: Rule[] = [
  ...rulesOf(
    {
      ...{ ational: "ate", tional: "tion", enci: "ence", anci: "ance", izer: "ize", bli: "ble", alli: "al" },
      ...{ entli: "ent", eli: "e", ousli: "ous", ization: "ize", ation: "ate", ator: "ate", alism: "al" },
      ...{ iveness: "ive", fulness: "ful", ousness: "ous", aliti: "al", iviti: "ive", biliti: "ble", fulli: "ful" },
    },
    positive,
  ),
  // The l counts to the stem.
  ["logi", "log", (stem) => positive(`${stem}l`)],
];

const adjectives = rulesOf(
  { icate: "ic", ative: "", alize: "al", iciti: "ic", ical: "ic", ful: "", ness: "" },
  positive,
);

const endings: Rule[] = [
  ...rulesOf(
    {
      ...{ al: "", ance: "", ence: "", er: "", ic: "", able: "", ible: "", ant: "", ement: "", ment: "", ent: "" },
    },
    aboveOne,
  ),
  ["ion", "", (stem) => aboveOne(stem) && /[st]$/.test(stem)],
  ...rulesOf({ ou: "", ism: "", ate: "", iti: "", ous: "", ive: "", ize: "" }, aboveOne),
];

const steps: readonly ((word: string) => string)[] = [
  (word) => (word.endsWith("ies") && word.length === 4 ? word.slice(0, -1) : apply(word, plurals)),
  participles,
  (word) => apply(word, [["y", "i", (stem) => stem.length > 1 && isConsonant(stem, stem.length - 1)]]),
  doubleSuffixes,
  (word) => apply(word, adjectives),
  (word) => apply(word, endings),
  finalE,
  (word) => apply(word, [["ll", "l", (stem) => aboveOne(`${stem}l`)]]),
];

/** The first rule whose suffix a word has decides. */
function apply(word: string, rules: readonly Rule[]): string {
  const rule = rules.find(([suffix]) => word.endsWith(suffix));
  if (rule === undefined) return word;
  const [suffix, replacement, holds] = rule;
  const stem = word.slice(0, word.length - suffix.length);
  return holds === undefined || holds(stem) ? stem + replacement : word;
}

/** -ed and -ing. */
function participles(word: string): string {
  if (word.endsWith("ied")) return word.length === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith("eed")) return apply(word, [["eed", "ee", positive]]);
  const stem = ["ed", "ing"]
    .filter((suffix) => word.endsWith(suffix))
    .map((suffix) => word.slice(0, word.length - suffix.length))
    .find(hasVowel);
  if (stem === undefined) return word;
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (endsInDouble(stem)) return /[lsz]$/.test(stem) ? stem : stem.slice(0, -1);
  return measure(stem) === 1 && endsShort(stem) ? `${stem}e` : stem;
}

function doubleSuffixes(word: string): string {
  if (word.endsWith("alli") && positive(word.slice(0, -4))) return doubleSuffixes(word.slice(0, -2));
  return apply(word, suffixes);
}

function finalE(word: string): string {
  if (!word.endsWith("e")) return word;
  const stem = word.slice(0, -1);
  const count = measure(stem);
  return count > 1 || (count === 1 && !endsShort(stem)) ? stem : word;
}

function isConsonant(word: string, i: number): boolean {
  if (/[aeiou]/.test(word[i]!)) return false;
  return word[i] !== "y" || i === 0 || !isConsonant(word, i - 1);
}

/** How often a consonant follows a vowel: m of [C](VC)^m[V]. */
function measure(stem: string): number {
  let count = 0;
  for (let i = 1; i < stem.length; i++) if (isConsonant(stem, i) && !isConsonant(stem, i - 1)) count++;
  return count;
}

function hasVowel(stem: string): boolean {
  return Array.from(stem).some((_, i) => !isConsonant(stem, i));
}

function endsInDouble(word: string): boolean {
  const last = word.length - 1;
  return last >= 1 && word[last] === word[last - 1] && isConsonant(word, last);
}

/** Consonant, vowel, consonant that is not w, x or y; of two letters, vowel and consonant. */
function endsShort(word: string): boolean {
  const last = word.length - 1;
  const vowelThenConsonant = last >= 1 && !isConsonant(word, last - 1) && isConsonant(word, last);
  if (last === 1) return vowelThenConsonant;
  return vowelThenConsonant && isConsonant(word, last - 2) && !/[wxy]$/.test(word);
}
