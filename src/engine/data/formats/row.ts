import { RerouteError } from "../../../protocol/errors";
import type { TextCompression } from "../../../protocol/textFormats";

/** One record of a file: a whole text where it is a string, else the values of its columns. */
export interface Row {
  value: unknown;
  /** Where it stands, for messages: "line 3 of x.jsonl". */
  where: string;
}

/** A file to read rows from. */
export interface RowSource {
  path: string;
  compression: TextCompression | null;
  /** A .txt file is one document, unchanged, instead of paragraphs: so it is in a folder of texts. */
  wholeText: boolean;
  /** The columns that mean something; formats that store by columns read no others. */
  columns: ReadonlySet<string>;
}

/** Reads a format's rows in file order, in bounded memory. */
export type RowReader = (source: RowSource) => AsyncIterable<Row>;

export function malformedRow(message: string, cause?: unknown): RerouteError {
  return new RerouteError("data/malformed", message, { cause });
}

/** What a library that reads untrusted bytes throws, with the file's name; ours and the file system's pass. */
export function readingError(path: string, what: string, cause: unknown): unknown {
  if (cause instanceof RerouteError || (cause as NodeJS.ErrnoException).syscall !== undefined) return cause;
  const reason = cause instanceof Error ? cause.message.slice(0, 200) : String(cause);
  return malformedRow(`${path} cannot be read as ${what}: ${reason}. Is it whole, and is its name right?`, cause);
}
