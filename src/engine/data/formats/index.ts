import type { TextFormat } from "../../../protocol/textFormats";
import { readArrow } from "./arrow";
import { readCsv } from "./csv";
import { readJsonDocument, readJsonLines } from "./json";
import { readParquet } from "./parquet";
import type { RowReader } from "./row";
import { readText } from "./text";

/** How each kind of file is read. */
export const rowReaders: Record<TextFormat, RowReader> = {
  txt: readText,
  jsonl: readJsonLines,
  ndjson: readJsonLines,
  json: readJsonDocument,
  csv: readCsv(","),
  tsv: readCsv("\t"),
  parquet: readParquet,
  arrow: readArrow,
};
