import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { RerouteError } from "../../protocol/errors";
import { decodeUtf8, maxLineBytes, readLines } from "./lines";

/** One text of a corpus. */
export interface TextDocument {
  text: string;
  /** What the text is about, as its file says: routing statistics are split by it. */
  domain: string;
}

/** The domain of documents that name none. */
export const unlabelledDomain = "unlabelled";
/** Domains are names shown in charts and tables, not texts. */
export const maxDomainCharacters = 200;
/** A .txt document longer than this continues as another one at the next line: it bounds memory, not content. */
export const maxTextDocumentCharacters = 16 * 2 ** 20;

/**
 * Documents of a corpus in file order, streamed: a consumer that has enough simply stops.
 *
 * - `.jsonl`: one object a line with `text` and an optional `domain`; empty lines are skipped;
 * - `.txt`: documents separated by blank lines (white space only); without one, the file is one document. Line ends inside a
 *   document become LF;
 * - a folder: every `.txt` file in it (not in its sub-folders) is one document, unchanged, sorted by name.
 *
 * Empty documents are skipped. A byte order mark is dropped.
 *
 * @throws `data/not-found`, or `data/malformed` naming file and line
 */
export async function* readDocuments(path: string): AsyncGenerator<TextDocument> {
  for (const file of await listTextFiles(path)) {
    try {
      if (file !== path) yield* readWholeFile(file);
      else if (isJsonLines(path)) yield* readJsonLines(path);
      else yield* readParagraphs(path);
    } catch (cause) {
      throw cause instanceof RerouteError ? cause : unreadable(file, cause);
    }
  }
}

/**
 * The files a corpus consists of: the file itself, or the `.txt` files of a folder.
 *
 * @throws `data/not-found`, or `data/malformed` for a file that is neither `.txt` nor `.jsonl`
 */
export async function listTextFiles(path: string): Promise<string[]> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) {
      const names = (await readdir(path)).filter((name) => /\.txt$/i.test(name)).sort();
      const files: string[] = [];
      for (const name of names) if ((await stat(join(path, name))).isFile()) files.push(join(path, name));
      if (files.length > 0) return files;
      throw new RerouteError(
        "data/not-found",
        `${path} holds no .txt file, expected a folder with one document a .txt file`,
      );
    }
    if (!found.isFile()) throw new RerouteError("data/not-found", `${path} is neither a file nor a folder`);
  } catch (cause) {
    throw cause instanceof RerouteError ? cause : unreadable(path, cause);
  }
  if (isJsonLines(path) || /\.txt$/i.test(path)) return [path];
  throw new RerouteError(
    "data/malformed",
    `${path} is not a kind of text file that is read, expected .jsonl, .txt or a folder of .txt files`,
  );
}

function isJsonLines(path: string): boolean {
  return /\.jsonl$/i.test(path);
}

async function* readJsonLines(path: string): AsyncGenerator<TextDocument> {
  for await (const line of readLines(path)) {
    if (line.text.trim() === "") continue;
    const document = parseDocument(line.text, `line ${line.number} of ${path}`);
    if (document.text !== "") yield document;
  }
}

function parseDocument(line: string, where: string): TextDocument {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new RerouteError("data/malformed", `${where} is not valid JSON: ${(cause as Error).message.slice(0, 200)}`, {
      cause,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new RerouteError("data/malformed", `${where} is not a JSON object, expected {"text": ..., "domain": ...}`);
  }
  const { text, domain } = value as { text?: unknown; domain?: unknown };
  if (typeof text !== "string") {
    throw new RerouteError(
      "data/malformed",
      `${where} ${text === undefined ? `has no "text"` : `has a "text" that is not a string`}`,
    );
  }
  return { text, domain: checkDomain(domain, where) };
}

function checkDomain(domain: unknown, where: string): string {
  if (domain === undefined || domain === null || domain === "") return unlabelledDomain;
  if (typeof domain !== "string")
    throw new RerouteError("data/malformed", `${where} has a "domain" that is not a string`);
  if (domain.length > maxDomainCharacters) {
    throw new RerouteError(
      "data/malformed",
      `${where} has a "domain" of ${domain.length} characters, the limit is ${maxDomainCharacters}`,
    );
  }
  // Results are keyed by domain in JSON files; this one key does not survive being read back.
  if (domain === "__proto__")
    throw new RerouteError("data/malformed", `${where} has the domain "__proto__", which cannot be used as a name`);
  return domain;
}

async function* readParagraphs(path: string): AsyncGenerator<TextDocument> {
  let lines: string[] = [];
  let characters = 0;
  for await (const { text } of readLines(path)) {
    const blank = text.trim() === "";
    if (lines.length > 0 && (blank || characters > maxTextDocumentCharacters)) {
      yield { text: lines.join("\n"), domain: unlabelledDomain };
      lines = [];
      characters = 0;
    }
    if (blank) continue;
    lines.push(text);
    characters += text.length + 1;
  }
  if (lines.length > 0) yield { text: lines.join("\n"), domain: unlabelledDomain };
}

async function* readWholeFile(path: string): AsyncGenerator<TextDocument> {
  const { size } = await stat(path);
  if (size > maxLineBytes) {
    throw new RerouteError(
      "data/malformed",
      `${path} has ${size} bytes, a document of a folder may have ${maxLineBytes}. Break it into several files`,
    );
  }
  const text = decodeUtf8(await readFile(path), (offset) => `byte ${offset} of ${path}`).replace(/^\ufeff/, "");
  if (text !== "") yield { text, domain: unlabelledDomain };
}

function unreadable(path: string, cause: unknown): RerouteError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const missing = code === "ENOENT" || code === "ENOTDIR";
  return new RerouteError("data/not-found", missing ? `${path} does not exist` : `${path} cannot be read: ${message}`, {
    cause,
  });
}
