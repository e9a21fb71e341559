import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { chatTemplateSource } from "../data/chatTemplate";
import { contentOf, readJson } from "../data/tokenizerFiles";
import type { GgufField } from "../gguf/write";

type JsonObject = { [key: string]: unknown };

/** Kinds of tokens in a GGUF vocabulary (`llama_token_type`). */
const kinds = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

const qwen =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const llama3 = qwen.replace("|\\p{N}|", "|\\p{N}{1,3}|");

const beginning = "[^\\r\\n\\p{L}\\p{N}]?";
const [upper, lower] = ["[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"];
const ending = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
const o200k =
  `${beginning}${upper}*${lower}+${ending}|${beginning}${upper}+${lower}*${ending}` +
  "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const deepseekV3 = [
  "\\p{N}{1,3}",
  "[一-龥\u3040-ゟ゠-ヿ]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" +
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
];

/**
 * What words are cut by before they are merged: the expressions in tokenizer.json, one after the other, and llama.cpp's name for them.
 * `ignoresMerges` null: either, where merges reach every token all the same.
 */
const wordSplits: readonly { regexes: readonly string[]; ignoresMerges: boolean | null; name: string }[] = [
  { regexes: [], ignoresMerges: false, name: "gpt-2" },
  { regexes: [qwen], ignoresMerges: false, name: "qwen2" },
  { regexes: [llama3], ignoresMerges: true, name: "llama-bpe" },
  { regexes: [llama3], ignoresMerges: false, name: "glm4" },
  { regexes: [o200k], ignoresMerges: null, name: "gpt-4o" },
  { regexes: deepseekV3, ignoresMerges: false, name: "deepseek-v3" },
];

/**
 * A checkpoint's tokenizer under the names that llama.cpp reads. Without a tokenizer.json: a vocabulary of numbers alone.
 * @throws RerouteError data/tokenizer for one that llama.cpp has no rules for
 */
export async function tokenizerFields(directory: string, vocabSize: number): Promise<Map<string, GgufField>> {
  const file = await readJson(path.join(directory, "tokenizer.json"));
  const fields = new Map<string, GgufField>();
  const put = (key: string, field: GgufField) => fields.set(`tokenizer.ggml.${key}`, field);
  if (file === null) {
    put("model", { type: "string", value: "no_vocab" });
    return fields;
  }
  const model = objectOf(file["model"]);
  const tokens = vocabularyOf(file, model, vocabSize);
  const merges = mergesOf(model);
  const { name, split } = rulesOf(file, model);
  put("model", { type: "string", value: name });
  put("pre", { type: "string", value: split });
  put("tokens", { type: "strings", value: tokens.map(({ text }) => text) });
  put("token_type", { type: "int32s", value: tokens.map(({ kind }) => kind) });
  if (name === "llama") put("scores", { type: "float32s", value: scoresOf(tokens, merges) });
  else put("merges", { type: "strings", value: merges });
  const ids = new Map(tokens.map(({ text }, id) => [text, id]));
  const config = await readJson(path.join(directory, "tokenizer_config.json"));
  const generation = await readJson(path.join(directory, "generation_config.json"));
  const modelConfig = await readJson(path.join(directory, "config.json"));
  for (const [key, token] of specialTokens) {
    const named = ids.get(contentOf(config?.[token]) ?? "");
    const id = named ?? firstId(generation?.[`${token}_id`]) ?? firstId(modelConfig?.[`${token}_id`]);
    if (id !== undefined && id < vocabSize) put(`${key}_token_id`, { type: "uint32", value: id });
  }
  put("add_bos_token", { type: "bool", value: config?.["add_bos_token"] === true || beginsWithSpecial(file) });
  if (name === "llama") put("add_space_prefix", { type: "bool", value: prependsSpace(file) });
  const template = await chatTemplateSource(directory);
  if (template !== null) fields.set("tokenizer.chat_template", { type: "string", value: template });
  return fields;
}

const specialTokens = [
  ["bos", "bos_token"],
  ["eos", "eos_token"],
  ["unknown", "unk_token"],
  ["padding", "pad_token"],
] as const;

interface VocabularyToken {
  text: string;
  kind: number;
}

function vocabularyOf(file: JsonObject, model: JsonObject, vocabSize: number): VocabularyToken[] {
  const tokens = Array.from({ length: vocabSize }, (_, id): VocabularyToken => ({
    text: `[PAD${id}]`,
    kind: kinds.unused,
  }));
  const put = (id: number, token: VocabularyToken) => {
    if (id < vocabSize) tokens[id] = token;
    else throw cannot(`has the id ${id}, the model's vocabulary has ${vocabSize}`);
  };
  for (const [text, id] of Object.entries(objectOf(model["vocab"]))) {
    const isByte = model["byte_fallback"] === true && /^<0x[0-9A-F]{2}>$/.test(text);
    const kind = isByte ? kinds.byte : text === model["unk_token"] ? kinds.unknown : kinds.normal;
    put(id as number, { text, kind });
  }
  for (const added of (file["added_tokens"] ?? []) as JsonObject[]) {
    const unknown = added["content"] === model["unk_token"] && model["byte_fallback"] === true;
    const kind = unknown ? kinds.unknown : added["special"] === true ? kinds.control : kinds.userDefined;
    put(added["id"] as number, { text: added["content"] as string, kind });
  }
  return tokens;
}

/** Merges as "left right", the first to be done first. */
function mergesOf(model: JsonObject): string[] {
  return ((model["merges"] ?? []) as (string | [string, string])[]).map((merge) =>
    typeof merge === "string" ? merge : merge.join(" "),
  );
}

/** SentencePiece joins the pair of the highest score: the rank of the first merge that gives a token, counted down. */
function scoresOf(tokens: readonly VocabularyToken[], merges: readonly string[]): number[] {
  const ranks = new Map<string, number>();
  merges.forEach((merge, rank) => {
    const token = merge.replace(" ", "");
    if (!ranks.has(token)) ranks.set(token, rank);
  });
  return tokens.map(({ text }) => -(ranks.get(text) ?? merges.length));
}

function rulesOf(file: JsonObject, model: JsonObject): { name: "gpt2" | "llama"; split: string } {
  if (model["type"] !== "BPE") throw cannot(`is of the kind ${String(model["type"])}`);
  const before = partsOf(file["pre_tokenizer"], "pretokenizers");
  const normalizers = partsOf(file["normalizer"], "normalizers");
  const isPlain = normalizers.every(({ type }) => type === "NFC");
  const byteLevel = before.find(({ type }) => type === "ByteLevel");
  if (byteLevel === undefined) {
    const isSentencePiece =
      model["byte_fallback"] === true &&
      before.every(({ type }) => type === "Metaspace") &&
      normalizers.every(({ type }) => type === "Prepend" || type === "Replace");
    if (isSentencePiece) return { name: "llama", split: "default" };
    throw cannot("is neither of bytes (ByteLevel) nor SentencePiece with byte_fallback");
  }
  if (!isPlain) throw cannot(`normalises text by ${normalizers.map(({ type }) => String(type)).join(", ")}`);
  const others = before.filter((part) => part !== byteLevel);
  const regexes = others.map((part) => escapedBreaks(objectOf(part["pattern"])["Regex"]));
  const usesOwn = byteLevel["use_regex"] !== false;
  const found = wordSplits.find(
    (rule) =>
      usesOwn === (others.length === 0) &&
      rule.regexes.join("\n") === regexes.join("\n") &&
      [null, model["ignore_merges"] === true].includes(rule.ignoresMerges),
  );
  if (found === undefined || others.some(({ type, behavior }) => type !== "Split" || behavior !== "Isolated")) {
    throw cannot("cuts words by an expression that is none of those known here");
  }
  return { name: "gpt2", split: found.name };
}

/** Line breaks in an expression stand for themselves or are escaped. */
function escapedBreaks(regex: unknown): string {
  return typeof regex === "string" ? regex.replaceAll("\r", "\\r").replaceAll("\n", "\\n") : "";
}

/** The parts of a sequence of normalisers or pre-tokenisers; one alone is a sequence of one. */
function partsOf(value: unknown, key: string): JsonObject[] {
  if (value === null || value === undefined) return [];
  const part = objectOf(value);
  return part["type"] === "Sequence" ? ((part[key] ?? []) as JsonObject[]) : [part];
}

/** Whether the template of a single text begins with a special token, which is the one for its beginning. */
function beginsWithSpecial(file: JsonObject): boolean {
  const processors = partsOf(file["post_processor"], "processors");
  return processors.some((part) => Array.isArray(part["single"]) && "SpecialToken" in objectOf(part["single"][0]));
}

function prependsSpace(file: JsonObject): boolean {
  const prepends = partsOf(file["normalizer"], "normalizers").some(({ type }) => type === "Prepend");
  return prepends || partsOf(file["pre_tokenizer"], "pretokenizers").some((part) => part["prepend_scheme"] !== "never");
}

function firstId(value: unknown): number | undefined {
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return typeof id === "number" && Number.isInteger(id) && id >= 0 ? id : undefined;
}

function objectOf(value: unknown): JsonObject {
  return typeof value === "object" && value !== null ? (value as JsonObject) : {};
}

function cannot(problem: string): RerouteError {
  return new RerouteError(
    "data/tokenizer",
    `The tokenizer of this checkpoint ${problem}, and no rules of llama.cpp are known for it; ` +
      "export a copy of the folder without tokenizer.json: the file then takes token ids alone",
  );
}
