import { open } from "node:fs/promises";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { parquetMetadataAsync, parquetReadObjects, type Compressors } from "hyparquet";
import { malformedRow, readingError, type Row, type RowSource } from "./row";
import { zstdUnpack } from "./zstd";

/** A row group is read whole, in the columns that mean something. */
const maxGroupBytes = 2 ** 30;

/** `.parquet`, one row group after the other: memory holds the columns of one. */
export async function* readParquet({ path, compression, columns }: RowSource): AsyncGenerator<Row> {
  if (compression !== null)
    throw malformedRow(`${path} is Parquet in .${compression}, which is compressed by itself; unpack it`);
  const handle = await open(path);
  try {
    const { size: byteLength } = await handle.stat();
    const readBlock = async (start: number, end: number): Promise<ArrayBuffer> => {
      const length = Math.max(0, Math.min(end, byteLength) - start);
      if (length > maxGroupBytes)
        throw malformedRow(`${path} asks for a block of ${length} bytes, the limit is ${maxGroupBytes}`);
      const block = new Uint8Array(length);
      if (length > 0) await handle.read(block, 0, length, start);
      return block.buffer;
    };
    const file = {
      byteLength,
      slice: (start: number, end = byteLength): Promise<ArrayBuffer> => {
        const block = readBlock(start, end);
        // The library asks for several blocks and gives up at the first that fails: the others must not end the process.
        block.catch(() => undefined);
        return block;
      },
    };
    const metadata = await parquetMetadataAsync(file);
    const names = topLevelNames(metadata.schema);
    const wanted = names.filter((name) => columns.has(name));
    if (wanted.length === 0) {
      yield { value: Object.fromEntries(names.map((name) => [name, null])), where: `row 1 of ${path}` };
      return;
    }
    let rowStart = 0;
    for (const group of metadata.row_groups) {
      const rowEnd = rowStart + Number(group.num_rows);
      const bytes = group.columns
        .filter(({ meta_data: meta }) => wanted.includes(meta?.path_in_schema[0] ?? ""))
        .reduce((sum, { meta_data: meta }) => sum + Number(meta?.total_uncompressed_size ?? 0), 0);
      if (bytes > maxGroupBytes)
        throw malformedRow(
          `${path} has a row group of ${bytes} bytes, the limit is ${maxGroupBytes}. Write it with smaller row groups`,
        );
      const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd, columns: wanted, compressors });
      for (const [i, value] of rows.entries()) yield { value, where: `row ${rowStart + i + 1} of ${path}` };
      rowStart = rowEnd;
    }
  } catch (cause) {
    throw readingError(path, "Parquet", cause);
  } finally {
    await handle.close();
  }
}

/** Snappy is the library's own; LZ4 is not read. */
const compressors: Compressors = {
  GZIP: (packed, length) => gunzipSync(packed, { maxOutputLength: Math.max(1, length) }),
  BROTLI: (packed, length) => brotliDecompressSync(packed, { maxOutputLength: Math.max(1, length) }),
  ZSTD: zstdUnpack,
};

/** The schema is a tree written depth first; its first element is the root. */
function topLevelNames(schema: readonly { name: string; num_children?: number | undefined }[]): string[] {
  const names: string[] = [];
  let at = 1;
  const skip = (): void => {
    let children = schema[at++]?.num_children ?? 0;
    for (; children > 0 && at < schema.length; children--) skip();
  };
  while (at < schema.length) {
    names.push(schema[at]!.name);
    skip();
  }
  return names;
}
