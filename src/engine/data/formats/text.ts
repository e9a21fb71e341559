import { readBytes } from "./bytes";
import { decodeUtf8, maxLineBytes, readLines } from "./lines";
import { malformedRow, type Row, type RowSource } from "./row";

/** A document longer than this continues as another one at the next line: it bounds memory, not content. */
export const maxTextDocumentCharacters = 16 * 2 ** 20;

/**
 * `.txt`: documents separated by blank lines (white space only); without one, the file is one document. Line ends inside a
 * document become LF. In a folder of texts each file is one document, unchanged.
 */
export async function* readText(source: RowSource): AsyncGenerator<Row> {
  yield* source.wholeText ? wholeText(source) : paragraphs(source);
}

async function* paragraphs({ path, compression }: RowSource): AsyncGenerator<Row> {
  let lines: string[] = [];
  let characters = 0;
  let first = 1;
  for await (const { text, number } of readLines(readBytes(path, compression), path)) {
    const blank = text.trim() === "";
    if (lines.length > 0 && (blank || characters > maxTextDocumentCharacters)) {
      yield { value: lines.join("\n"), where: `line ${first} of ${path}` };
      lines = [];
      characters = 0;
    }
    if (blank) continue;
    if (lines.length === 0) first = number;
    lines.push(text);
    characters += text.length + 1;
  }
  if (lines.length > 0) yield { value: lines.join("\n"), where: `line ${first} of ${path}` };
}

async function* wholeText({ path, compression }: RowSource): AsyncGenerator<Row> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of readBytes(path, compression)) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > maxLineBytes)
      throw malformedRow(
        `${path} has more than ${maxLineBytes} bytes, the limit for a document of a folder. Break it into several files`,
      );
  }
  const text = decodeUtf8(Buffer.concat(chunks), (offset) => `byte ${offset} of ${path}`).replace(/^\ufeff/, "");
  yield { value: text, where: path };
}
