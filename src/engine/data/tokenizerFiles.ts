import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { RerouteError } from "../../protocol/errors";
import { refusePointer } from "../checkpoint/smallFile";
import { exactNormalizer, exactPreTokenizer, UnsupportedPart } from "./exactParts";
import { withWordSplit } from "./wordSplit";

/** What a checkpoint folder says about its tokenizer, checked so far that the library can be built from it. */
export interface TokenizerFiles {
  /** Path of tokenizer.json, for messages. */
  path: string;
  sizeBytes: number;
  /** tokenizer.json without what only decoding and special-token templates need. */
  definition: { [key: string]: unknown };
  /** Its decoder, unchecked. */
  decoder: unknown;
  /** Ids of special tokens. */
  special: ReadonlySet<number>;
  /** Every (id, token) pair, ordinary and added tokens. */
  vocabulary: [number, string][];
  endOfTextToken: string | null;
  unknownToken: string | null;
  endOfTextId: number | null;
}

/** The largest known tokenizer.json (262,144 tokens) has 33 MB; parsing takes several times the size in memory. */
export const maxTokenizerBytes = 64 * 2 ** 20;
/** Ids are stored as int32. */
export const maxTokenId = 2 ** 31 - 1;
/** Real ones nest about 8 deep; the library recurses. */
const maxDepth = 64;
const modelTypes = ["BPE", "Unigram", "WordPiece", "WordLevel"];

type JsonObject = { [key: string]: unknown };

/** @throws `data/tokenizer` */
export async function readTokenizerFiles(directory: string): Promise<TokenizerFiles> {
  const path = join(directory, "tokenizer.json");
  const file = await readJson(path);
  if (file === null) {
    throw new RerouteError(
      "data/tokenizer",
      `${path} does not exist. Text can only be read with the checkpoint's fast tokenizer: copy tokenizer.json beside config.json, or name the folder that has it (--tokenizer DIR, data.tokenizer in a recipe)`,
    );
  }
  const tokenizerConfig = await readJson(join(directory, "tokenizer_config.json"));
  const model = checkDefinition(file, path);
  const ordinary = checkVocabulary(model, path);
  const added = checkAddedTokens(file.added_tokens ?? [], path);
  addConfiguredTokens(added, tokenizerConfig, new Map(ordinary.map(([id, token]) => [token, id])));

  const vocabulary: [number, string][] = [
    ...ordinary,
    ...added.map(({ id, content }): [number, string] => [id, content]),
  ];
  const endOfTextToken = contentOf(tokenizerConfig?.eos_token);
  const ids = new Map(vocabulary.map(([id, token]) => [token, id]));
  const endOfTextId =
    (endOfTextToken === null ? undefined : ids.get(endOfTextToken)) ??
    firstId((await readJson(join(directory, "config.json")))?.eos_token_id) ??
    firstId((await readJson(join(directory, "generation_config.json")))?.eos_token_id) ??
    null;

  const definition: JsonObject = {
    model,
    ...exactParts(file, model, path),
    added_tokens: added,
    // Templates only place special tokens, which are never added here; decoding is not needed.
    post_processor: null,
    decoder: null,
  };
  const unknownToken = contentOf(model.unk_token);
  const { size: sizeBytes } = await stat(path);
  const special = new Set(added.flatMap((token) => (token["special"] === true ? [token.id] : [])));
  return {
    path,
    sizeBytes,
    definition,
    decoder: file.decoder ?? null,
    special,
    vocabulary,
    endOfTextToken,
    unknownToken,
    endOfTextId,
  };
}

/** A JSON object, or null when the file does not exist. */
export async function readJson(path: string): Promise<JsonObject | null> {
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > maxTokenizerBytes) throw broken(path, `has ${size} bytes, more than the limit of ${maxTokenizerBytes}`);
    const bytes = await readFile(path);
    refusePointer(bytes, path);
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    if (cause instanceof RerouteError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw broken(path, `cannot be read: ${message}`, cause);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw broken(path, `is not valid JSON: ${(cause as Error).message}`, cause);
  }
  if (!isObject(value)) throw broken(path, "does not hold a JSON object");
  return value;
}

function exactParts(file: JsonObject, model: JsonObject, path: string): JsonObject {
  try {
    return {
      normalizer: exactNormalizer((file.normalizer ?? null) as JsonObject | null),
      pre_tokenizer: exactPreTokenizer(withWordSplit((file.pre_tokenizer ?? null) as JsonObject | null, model)),
    };
  } catch (cause) {
    throw cause instanceof UnsupportedPart ? broken(path, `has ${cause.message}`, cause) : cause;
  }
}

/** Checks what the library takes for granted, and returns the model. */
function checkDefinition(file: JsonObject, path: string): JsonObject {
  for (const key of ["normalizer", "pre_tokenizer"]) {
    const part = file[key] ?? null;
    if (part !== null && !isObject(part)) throw broken(path, `has a "${key}" that is neither an object nor null`);
    checkParts(part, path, key, 0);
  }
  const { model } = file;
  if (!isObject(model)) throw broken(path, `has no "model" object`);
  const type = model.type ?? (Array.isArray(model.merges) ? "BPE" : undefined);
  if (typeof type !== "string" || !modelTypes.includes(type)) {
    throw broken(
      path,
      `has a model of type ${JSON.stringify(model.type)?.slice(0, 60)}, expected one of ${modelTypes.join(", ")}`,
    );
  }
  if (type === "BPE") checkMerges(model.merges, path);
  return { ...model, type };
}

/** The library warns and goes on where a split or replacement has no pattern, which would silently lose text. */
function checkParts(value: unknown, path: string, where: string, depth: number): void {
  if (depth > maxDepth) throw broken(path, `nests "${where}" more than ${maxDepth} deep`);
  if (Array.isArray(value)) {
    for (const item of value) checkParts(item, path, where, depth + 1);
    return;
  }
  if (!isObject(value)) return;
  if ((value.type === "Split" || value.type === "Replace") && !isPattern(value.pattern)) {
    throw broken(
      path,
      `has a ${value.type} in "${where}" without a pattern, expected {"Regex": ...} or {"String": ...}`,
    );
  }
  for (const item of Object.values(value)) checkParts(item, path, where, depth + 1);
}

function isPattern(value: unknown): boolean {
  return isObject(value) && (typeof value.Regex === "string" || typeof value.String === "string");
}

function checkMerges(merges: unknown, path: string): void {
  if (!Array.isArray(merges)) throw broken(path, "has a BPE model without a list of merges");
  const isMerge = (merge: unknown) =>
    typeof merge === "string"
      ? merge.indexOf(" ") > 0
      : Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === "string");
  const wrong = merges.findIndex((merge) => !isMerge(merge));
  if (wrong >= 0)
    throw broken(
      path,
      `has a merge ${wrong} that does not name two tokens: ${JSON.stringify(merges[wrong])?.slice(0, 60)}`,
    );
}

function checkVocabulary(model: JsonObject, path: string): [number, string][] {
  const { vocab } = model;
  if (model.type === "Unigram") {
    if (!Array.isArray(vocab)) throw broken(path, "has a Unigram model whose vocabulary is not a list");
    return vocab.map((entry: unknown, id): [number, string] => {
      const [token, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
      if (typeof token !== "string" || typeof score !== "number")
        throw broken(path, `has a vocabulary entry ${id} without token and score`);
      return [id, token];
    });
  }
  if (!isObject(vocab)) throw broken(path, `has a ${String(model.type)} model without a vocabulary`);
  return Object.entries(vocab).map(([token, id]) => [checkId(id, token, path), token]);
}

interface AddedToken {
  [key: string]: unknown;
  id: number;
  content: string;
}

function checkAddedTokens(tokens: unknown, path: string): AddedToken[] {
  if (!Array.isArray(tokens)) throw broken(path, `has "added_tokens" that are not a list`);
  return tokens.map((token: unknown, i) => {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "") {
      throw broken(path, `has an added token ${i} without content`);
    }
    if (token.single_word === true) {
      throw broken(
        path,
        `has the added token ${JSON.stringify(token.content.slice(0, 40))} with "single_word", which is not supported`,
      );
    }
    return { ...token, id: checkId(token.id, token.content, path), content: token.content };
  });
}

/** transformers also adds the tokens that only tokenizer_config.json lists; a token of the vocabulary keeps its id. */
function addConfiguredTokens(added: AddedToken[], tokenizerConfig: JsonObject | null, ids: Map<string, number>): void {
  const configured = tokenizerConfig?.added_tokens_decoder;
  if (!isObject(configured)) return;
  const known = new Set(added.map(({ content }) => content));
  for (const [key, token] of Object.entries(configured)) {
    const content = contentOf(token);
    const id = content === null ? undefined : (ids.get(content) ?? firstId(Number(key)));
    if (!isObject(token) || content === null || id === undefined || known.has(content)) continue;
    known.add(content);
    added.push({ ...token, id, content });
  }
}

function checkId(id: unknown, token: string, path: string): number {
  const valid = firstId(id);
  if (valid !== undefined && !Array.isArray(id)) return valid;
  throw broken(
    path,
    `gives token ${JSON.stringify(token.slice(0, 40))} the id ${JSON.stringify(id)?.slice(0, 40)}, expected 0 to ${maxTokenId}`,
  );
}

/** An id, or the first of a list of ids. */
function firstId(value: unknown): number | undefined {
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return typeof id === "number" && Number.isInteger(id) && id >= 0 && id <= maxTokenId ? id : undefined;
}

/** A token is written as a string or as an object with its content. */
export function contentOf(token: unknown): string | null {
  const content = isObject(token) ? token.content : token;
  return typeof content === "string" && content !== "" ? content : null;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function broken(path: string, what: string, cause?: unknown): RerouteError {
  return new RerouteError("data/tokenizer", `${path} ${what}`, { cause });
}
