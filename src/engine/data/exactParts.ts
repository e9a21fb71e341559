/**
 * Parts of a tokenizer.json that `@huggingface/tokenizers` (JavaScript) does differently from `tokenizers` (Rust, what
 * transformers runs), rewritten into parts that it does exactly alike. Each difference was found by comparing ids over texts
 * with all kinds of white space, digits, punctuation and scripts; test/fixtures/tokenizer-parts.json holds the comparison.
 */

type Part = { [key: string]: unknown };

/** What a part asks for that can neither be done exactly nor rewritten. */
export class UnsupportedPart extends Error {
  override readonly name = "UnsupportedPart";
}

/** @throws UnsupportedPart */
export function exactPreTokenizer(part: Part | null): Part | null {
  if (part === null) return null;
  switch (part.type) {
    case "Sequence":
      return sequence(parts(part.pretokenizers).map(exactPreTokenizer));
    case "Split":
      return exactSplit(part);
    case "Digits":
      // The library knows ASCII digits only. Rust's `is_numeric` is the Unicode category N.
      return split("\\p{N}", part.individual_digits === true ? "Isolated" : "Contiguous");
    case "Punctuation":
      // The library keeps runs of punctuation together, whatever the behaviour.
      return split("[!-/:-@\\[-`{-~\\p{P}]", typeof part.behavior === "string" ? part.behavior : "Isolated");
    case "Whitespace":
      // The library's \w is ASCII; Rust's includes the joiners of emoji and of Indic and Arabic scripts.
      return matches("[\\w\\u200c\\u200d]+|[^\\w\\u200c\\u200d\\s]+");
    case "WhitespaceSplit":
      // JavaScript's \s includes U+FEFF and misses U+0085.
      return matches("\\S+");
    case "FixedLength":
      // The library counts UTF-16 units instead of characters.
      return matches(`[\\s\\S]{1,${typeof part.length === "number" ? Math.max(1, Math.trunc(part.length)) : 5}}`);
    case "Metaspace":
      return exactMetaspace(part);
    case "ByteLevel":
      return exactByteLevel(part);
    default:
      return part;
  }
}

/** @throws UnsupportedPart */
export function exactNormalizer(part: Part | null): Part | null {
  if (part === null) return null;
  switch (part.type) {
    case "Sequence":
      return { type: "Sequence", normalizers: parts(part.normalizers).map(exactNormalizer) };
    case "Replace":
      // JavaScript would read "$&" and its like in the new content.
      return { ...part, content: typeof part.content === "string" ? part.content.replaceAll("$", "$$$$") : "" };
    case "Strip": {
      const replace = (pattern: string) => ({ type: "Replace", pattern: { Regex: pattern }, content: "" });
      const left = part.strip_left === true ? [replace("\\A\\s+")] : [];
      const right = part.strip_right === true ? [replace("\\s+\\z")] : [];
      return { type: "Sequence", normalizers: [...left, ...right] };
    }
    default:
      return part;
  }
}

/** The library knows "Isolated" without and "Removed" with inversion; for the rest it returns other pieces, or none. */
function exactSplit(part: Part): Part {
  const { Regex: regex, String: literal } = part.pattern as { Regex?: unknown; String?: unknown };
  const { behavior, invert = false } = part;
  if (literal === "") throw new UnsupportedPart("a Split at the empty string");
  // Both sides of each cut are kept: which of them the pattern matched does not matter.
  if (behavior === "Isolated") return { ...part, invert: false };
  if (behavior === "Removed" && (invert === true || typeof regex === "string")) return part;
  if (invert === true || typeof literal !== "string") {
    throw new UnsupportedPart(
      `a Split with ${JSON.stringify({ behavior, invert }).slice(0, 100)}, which is not supported`,
    );
  }
  return split(literal.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), behavior);
}

/**
 * Splits at every match of a pattern that never matches the empty string: a regular expression for the pieces themselves.
 */
function split(pattern: string, behavior: unknown): Part {
  const match = `(?:${pattern})`;
  const other = `(?:(?!${match})[\\s\\S])`;
  switch (behavior) {
    case "Isolated":
      return { type: "Split", pattern: { Regex: pattern }, behavior, invert: false };
    case "Removed":
      return matches(`${other}+`);
    case "Contiguous":
      return matches(`${match}+|${other}+`);
    case "MergedWithPrevious":
      return matches(`${other}*${match}|${other}+`);
    case "MergedWithNext":
      return matches(`${match}${other}*|${other}+`);
    default:
      throw new UnsupportedPart(`the split behaviour ${JSON.stringify(behavior)?.slice(0, 60)}, which is not known`);
  }
}

/** The pieces are what the pattern matches. */
function matches(pattern: string): Part {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert: true };
}

/** The library marks spaces, but never splits at the marks. */
function exactMetaspace(part: Part): Part {
  const replacement = typeof part.replacement === "string" && part.replacement !== "" ? part.replacement : "\u2581";
  // `add_prefix_space` is how files of before 2023 say it.
  const prependScheme = part.add_prefix_space === false ? "never" : (part.prepend_scheme ?? "always");
  const marks = { type: "Metaspace", replacement, prepend_scheme: prependScheme };
  if (part.split === false) return marks;
  const cut = { type: "Split", pattern: { String: replacement }, behavior: "MergedWithNext", invert: false };
  return sequence([marks, exactSplit(cut)]);
}

/** GPT-2's pattern, run as a Split so that its \s means what it means in Rust. */
function exactByteLevel(part: Part): Part {
  if (part.use_regex === false || part.add_prefix_space === true) return part;
  const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  return sequence([split(gpt2, "Isolated"), { ...part, use_regex: false }]);
}

function sequence(pretokenizers: (Part | null)[]): Part {
  return { type: "Sequence", pretokenizers };
}

function parts(value: unknown): Part[] {
  const isPart = (item: unknown): item is Part => typeof item === "object" && item !== null && !Array.isArray(item);
  if (Array.isArray(value) && value.every(isPart)) return value;
  throw new UnsupportedPart("a Sequence without a list of parts");
}
