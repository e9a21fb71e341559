import { createHash } from "node:crypto";
import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { RerouteError } from "../../protocol/errors";
import { readTokenizerFiles, type TokenizerFiles } from "./tokenizerFiles";
import { TimeLimitExceeded, withTimeLimit } from "../checkpoint/timeLimit";

/** Text to token ids, exactly as the checkpoint's own `tokenizer.json` does it. */
export interface Tokenizer {
  /**
   * Ids of a text. No special tokens are added around it; special tokens spelled out inside the text become their ids, as the
   * reference (`add_special_tokens=False`) does. Lone surrogates, which no UTF-8 text can hold, count as U+FFFD.
   *
   * @throws `data/tokenizer` when the tokenizer has no id for a piece of the text, or is too slow to be usable
   */
  encode: (text: string) => Int32Array;
  /** What separates documents in packed sequences; null when none of the checkpoint's files names one. */
  endOfTextId: number | null;
  /** SHA-256 over all (id, token) pairs: equal for teacher and student exactly when the ids mean the same. */
  vocabularyHash: string;
  /** One more than the largest id. */
  vocabularySize: number;
}

/**
 * Time one text may take: a regular expression of a hostile or broken tokenizer.json can backtrack for years. Ordinary
 * tokenizers take 1 to 2 us a character on one slow core, those without words up to 13, so the allowance is ample.
 */
export const encodeLimitMs = 500;
export const encodeLimitMsPerCharacter = 0.05;
/** Beside that of one text, where many short lists of ids are decoded at once. */
const decodeLimitMsPerList = 1;
/** Building the tables of a real tokenizer.json takes about 0.1 us a byte. */
const constructionLimitMs = 500;
const constructionLimitMsPerByte = 0.002;

/**
 * Opens `tokenizer.json` of a checkpoint folder.
 *
 * The end-of-text id is the first of: `eos_token` of tokenizer_config.json, looked up in the vocabulary; `eos_token_id` of
 * config.json; `eos_token_id` of generation_config.json. Where an `eos_token_id` is a list, its first element counts.
 *
 * @throws `data/tokenizer` when the file is missing, too large, malformed, or of a kind that cannot be used
 */
export async function loadTokenizer(checkpointDirectory: string): Promise<Tokenizer> {
  const files = await readTokenizerFiles(checkpointDirectory);
  const library = createLibraryTokenizer(files);
  return {
    encode: (text) => encode(library, files.path, text),
    endOfTextId: files.endOfTextId,
    vocabularyHash: hashVocabulary(files.vocabulary),
    vocabularySize: files.vocabulary.reduce((largest, [id]) => Math.max(largest, id + 1), 0),
  };
}

/** Token ids to text, to show what a model reads. */
export interface TokenDecoder {
  /** Text of ids, special tokens included; where the decoder is none that is known, the tokens themselves. */
  decode: (ids: Int32Array) => string;
  isSpecial: (id: number) => boolean;
}

/** @throws as loadTokenizer */
export async function loadDecoder(directory: string): Promise<TokenDecoder> {
  const files = await readTokenizerFiles(directory);
  const decodeEach = decoderOf(files);
  return { decode: (ids) => decodeEach([Array.from(ids)])[0]!, isSpecial: (id) => files.special.has(id) };
}

/** The text of single tokens, each by itself. */
export type PieceDecoder = (ids: readonly number[]) => string[];

/**
 * The text of single tokens, with the spaces that decoders take off the beginning of a text; ids where nothing can decode.
 */
export async function pieceDecoder(directory: string): Promise<PieceDecoder> {
  try {
    const decodeEach = decoderOf(await readTokenizerFiles(directory));
    return (ids) => {
      const once = decodeEach(ids.map((id) => [id]));
      return decodeEach(ids.map((id) => [id, id])).map((twice, i) => twice.slice(once[i]!.length));
    };
  } catch {
    return (ids) => ids.map((id) => `<${id}>`);
  }
}

/** Texts of many lists of ids at once: guarding a call takes longer than decoding a few ids. */
type DecodeEach = (lists: readonly (readonly number[])[]) => string[];

function decoderOf(files: TokenizerFiles): DecodeEach {
  return decodeWith(files) ?? joinWith(files.vocabulary);
}

function decodeWith(files: TokenizerFiles): DecodeEach | null {
  try {
    const library = createLibraryTokenizer({ ...files, definition: { ...files.definition, decoder: files.decoder } });
    const options = { skip_special_tokens: false, clean_up_tokenization_spaces: false };
    const decodeEach: DecodeEach = (lists) =>
      withTimeLimit(encodeLimitMs + lists.length * decodeLimitMsPerList, () =>
        lists.map((ids) => library.decode([...ids], options)),
      );
    decodeEach([[0]]);
    return decodeEach;
  } catch {
    return null;
  }
}

function joinWith(vocabulary: TokenizerFiles["vocabulary"]): DecodeEach {
  const tokens = new Map(vocabulary);
  return (lists) => lists.map((ids) => ids.map((id) => tokens.get(id) ?? `<${id}>`).join(""));
}

function createLibraryTokenizer({
  path,
  sizeBytes,
  definition,
  endOfTextToken,
  unknownToken,
}: TokenizerFiles): LibraryTokenizer {
  const config = { eos_token: endOfTextToken, unk_token: unknownToken };
  try {
    const limitMs = constructionLimitMs + constructionLimitMsPerByte * sizeBytes;
    return withTimeLimit(limitMs, () => new LibraryTokenizer(definition, config));
  } catch (cause) {
    throw new RerouteError("data/tokenizer", `${path} cannot be used as a tokenizer: ${reasonOf(cause)}`, { cause });
  }
}

function encode(library: LibraryTokenizer, path: string, text: string): Int32Array {
  if (text.length === 0) return new Int32Array(0);
  const wellFormed = text.replace(/\p{Surrogate}/gu, "\ufffd");
  let ids: unknown[];
  try {
    const limitMs = encodeLimitMs + encodeLimitMsPerCharacter * text.length;
    ids = withTimeLimit(limitMs, () => library.encode(wellFormed, { add_special_tokens: false }).ids);
  } catch (cause) {
    const what = `a text of ${text.length} characters, beginning ${JSON.stringify(text.slice(0, 40))}`;
    throw new RerouteError("data/tokenizer", `${path} cannot tokenise ${what}: ${reasonOf(cause)}`, { cause });
  }
  const unknown = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  if (unknown >= 0) {
    throw new RerouteError(
      "data/tokenizer",
      `${path} gives no id for token ${unknown} of a text beginning ${JSON.stringify(text.slice(0, 40))}, and names no unknown token`,
    );
  }
  return Int32Array.from(ids as number[]);
}

function hashVocabulary(vocabulary: TokenizerFiles["vocabulary"]): string {
  const hash = createHash("sha256");
  const sorted = [...vocabulary].sort(
    ([idA, tokenA], [idB, tokenB]) => idA - idB || (tokenA < tokenB ? -1 : tokenA > tokenB ? 1 : 0),
  );
  let previous = "";
  for (const [id, token] of sorted) {
    const line = `${id}\t${JSON.stringify(token)}\n`;
    // Special tokens are listed among the added tokens, and by some writers among the ordinary ones too.
    if (line !== previous) hash.update(line);
    previous = line;
  }
  return hash.digest("hex");
}

function reasonOf(cause: unknown): string {
  if (cause instanceof TimeLimitExceeded) return `it took more than ${Math.round(cause.limitMs)} ms`;
  return cause instanceof Error ? cause.message.slice(0, 300) : String(cause);
}
