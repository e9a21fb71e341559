import { readBytes } from "./bytes";
import { decodeUtf8, maxLineBytes, readLines } from "./lines";
import { malformedRow, type Row, type RowSource } from "./row";

/** `.jsonl`, `.ndjson`: one object a line; empty lines are skipped. */
export async function* readJsonLines({ path, compression }: RowSource): AsyncGenerator<Row> {
  for await (const { text, number } of readLines(readBytes(path, compression), path)) {
    if (text.trim() === "") continue;
    const where = `line ${number} of ${path}`;
    yield { value: parseJson(text, where), where };
  }
}

/**
 * `.json`: the elements of a list, or values one behind the other (so one a line as well), streamed. An object that only wraps a
 * list, such as {"data": [...]}, gives the list's elements.
 */
export async function* readJsonDocument({ path, compression, columns }: RowSource): AsyncGenerator<Row> {
  for await (const { bytes, line } of splitValues(readBytes(path, compression), path)) {
    const where = `line ${line} of ${path}`;
    const text = decodeUtf8(bytes, (offset) => `byte ${offset} of the value at ${where}`);
    const value = parseJson(text, where);
    const rows = wrapped(value, columns);
    if (rows === null) yield { value, where };
    else for (const [i, row] of rows.entries()) yield { value: row, where: `record ${i + 1} at ${where}` };
  }
}

/**
 * Like JSON.parse, with what Python's json writes for what is no number (NaN, Infinity) as null.
 *
 * @throws `data/malformed`
 */
export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    try {
      return JSON.parse(withoutNaN(text));
    } catch {
      throw malformedRow(`${where} is not valid JSON: ${(cause as Error).message.slice(0, 200)}`, cause);
    }
  }
}

function withoutNaN(text: string): string {
  let result = "";
  let at = 0;
  while (at < text.length) {
    const quote = text.indexOf('"', at);
    const outside = text.slice(at, quote < 0 ? text.length : quote);
    result += outside.replace(/-?\b(?:NaN|Infinity)\b/g, "null");
    if (quote < 0) break;
    let end = quote + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    result += text.slice(quote, end + 1);
    at = end + 1;
  }
  return result;
}

/** The elements of the only list of objects in an object that has no column of its own. */
function wrapped(value: unknown, columns: ReadonlySet<string>): unknown[] | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  if (Object.keys(value).some((key) => columns.has(key))) return null;
  const isRecords = (member: unknown): member is unknown[] =>
    Array.isArray(member) && member.some((item) => typeof item === "object" && item !== null && !Array.isArray(item));
  const lists = Object.values(value).filter(isRecords);
  return lists.length === 1 ? lists[0]! : null;
}

const [tab, lineFeed, carriageReturn, space, comma, quote, backslash] = [9, 10, 13, 32, 44, 34, 92] as const;
const [openBracket, closeBracket, openBrace, closeBrace] = [91, 93, 123, 125] as const;

/** JSON values at the top of a file or in a list at its top, as bytes; each is parsed by itself, so memory holds one. */
async function* splitValues(
  chunks: AsyncIterable<Uint8Array>,
  path: string,
): AsyncGenerator<{ bytes: Uint8Array; line: number }> {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let line = 1;
  let startLine = 1;
  let state: "between" | "nested" | "scalar" = "between";
  let [depth, inString, escaped, inList, isFirst] = [0, false, false, false, true];
  const finish = (end: Uint8Array): { bytes: Uint8Array; line: number } => {
    const bytes = held.length === 0 ? end : Buffer.concat([...held, end]);
    [held, heldBytes, state] = [[], 0, "between"];
    return { bytes, line: startLine };
  };

  for await (const chunk of chunks) {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!;
      if (byte === lineFeed) line++;
      if (state === "nested") {
        if (inString) {
          if (escaped) escaped = false;
          else if (byte === backslash) escaped = true;
          else if (byte === quote) inString = false;
        } else if (byte === quote) inString = true;
        else if (byte === openBracket || byte === openBrace) depth++;
        else if (byte === closeBracket || byte === closeBrace) depth--;
        if (depth === 0 && !inString) yield finish(chunk.subarray(from, i + 1));
        continue;
      }
      const isBlank = byte === space || byte === lineFeed || byte === carriageReturn || byte === tab;
      const isBorder = isBlank || byte === comma || byte === closeBracket;
      if (state === "scalar" && isBorder) yield finish(chunk.subarray(from, i));
      if (isFirst && (byte === 0xef || byte === 0xbb || byte === 0xbf)) continue; // a byte order mark
      if (state === "scalar" || isBlank || (inList && byte === comma)) continue;
      isFirst = false;
      if (inList && byte === closeBracket) inList = false;
      else if (!inList && byte === openBracket) inList = true;
      else {
        [from, startLine] = [i, line];
        const nests = byte === openBracket || byte === openBrace;
        [depth, inString, escaped] = [Number(nests), byte === quote, false];
        state = nests || inString ? "nested" : "scalar";
      }
    }
    if ((state as string) === "between" || from === chunk.length) continue;
    held.push(chunk.subarray(from));
    heldBytes += chunk.length - from;
    if (heldBytes > maxLineBytes)
      throw malformedRow(
        `the value at line ${startLine} of ${path} has more than ${maxLineBytes} bytes, the limit. Break the text into shorter documents`,
      );
  }
  if ((state as string) !== "between") yield finish(new Uint8Array(0));
  else if (inList) throw malformedRow(`${path} ends in the middle of a list. Is it whole?`);
}
