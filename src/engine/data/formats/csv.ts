import { Readable } from "node:stream";
import { CsvError, parse } from "csv-parse";
import { readBytes } from "./bytes";
import { maxLineBytes } from "./lines";
import { malformedRow, readingError, type Row, type RowSource } from "./row";

/** `.csv`, `.tsv`: the first line names the columns; fields may be quoted and hold line ends (RFC 4180). */
export function readCsv(delimiter: "," | "\t"): (source: RowSource) => AsyncGenerator<Row> {
  return async function* ({ path, compression }) {
    const bytes = Readable.from(readBytes(path, compression));
    const parser = parse({
      columns: true,
      bom: true,
      delimiter,
      info: true,
      relax_column_count: true,
      relax_quotes: true,
      skip_empty_lines: true,
      max_record_size: maxLineBytes,
    });
    bytes.on("error", (error) => parser.destroy(error));
    try {
      for await (const item of bytes.pipe(parser)) {
        const { record, info } = item as { record: unknown; info: { lines: number } };
        yield { value: record, where: `the record before line ${info.lines + 1} of ${path}` };
      }
    } catch (cause) {
      if (cause instanceof CsvError && cause.code === "CSV_MAX_RECORD_SIZE")
        throw malformedRow(`a record of ${path} has more than ${maxLineBytes} bytes, the limit`, cause);
      throw readingError(path, "a table", cause);
    } finally {
      bytes.destroy();
    }
  };
}
