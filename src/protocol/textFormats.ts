/** Kinds of file that texts are read from, by extension, lower case; the engine, the pickers of the extension and the documents go by it. */
export const textFormats = {
  txt: "plain text",
  jsonl: "JSON Lines",
  ndjson: "JSON Lines",
  json: "JSON: a list, one value a line, or values in a row",
  csv: "comma-separated values with a header",
  tsv: "tab-separated values with a header",
  parquet: "Parquet",
  arrow: "Arrow IPC, stream or file",
} as const;
export type TextFormat = keyof typeof textFormats;

/** Endings of compressed files, behind the extension: text.jsonl.zst. */
export const textCompressions = ["gz", "zst"] as const;
export type TextCompression = (typeof textCompressions)[number];

/** Extensions of all readable files, as a picker wants them. */
export const textExtensions: readonly string[] = [...Object.keys(textFormats), ...textCompressions];

/** What the name of a file says about its content; null where it is none of the kinds that are read. */
export function textFormatOf(
  fileName: string,
): { format: TextFormat | null; compression: TextCompression | null } | null {
  const parts = fileName.toLowerCase().split(/[\\/]/).at(-1)!.split(".").slice(1);
  const compression = textCompressions.find((ending) => ending === parts.at(-1)) ?? null;
  const extension = parts.at(compression === null ? -1 : -2);
  const isFormat = extension !== undefined && Object.hasOwn(textFormats, extension);
  if (!isFormat && compression === null) return null;
  return { format: isFormat ? (extension as TextFormat) : null, compression };
}
