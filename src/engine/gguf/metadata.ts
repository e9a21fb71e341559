import { numberBytes, type GgufReader } from "./reader";
import { quote } from "../checkpoint/quote";

/** A metadata value. Arrays that are not kept (vocabularies) are known by their length alone. */
export type GgufValue = number | string | boolean | readonly GgufValue[] | { length: number };

/** Real files have 20 to 60 keys. */
const maxKeys = 10_000;
/** The format says 2^16 - 1 bytes. */
const maxKeyLength = 65_535;
/** Vocabularies and merges have about 300,000. */
const maxArrayElements = 4_000_000;
/** Longer arrays are passed over: nobody asks for a vocabulary here. */
const maxKeptElements = 4096;
const maxDepth = 4;

type NumberType = keyof typeof numberBytes;
const valueTypes: readonly (NumberType | "bool" | "string" | "array")[] = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "float32",
  "bool",
  "string",
  "array",
  "uint64",
  "int64",
  "float64",
];

/**
 * The key-value pairs of a GGUF header, from their count on.
 * @throws RerouteError checkpoint/malformed, /truncated, /limit
 */
export async function readGgufMetadata(reader: GgufReader): Promise<Map<string, GgufValue>> {
  const count = await reader.size("the number of metadata keys");
  if (count > maxKeys) throw reader.limit("metadata keys", count, maxKeys);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = await reader.string(`metadata key ${i}`);
    if (key.length > maxKeyLength) throw reader.limit(`characters in metadata key ${i}`, key.length, maxKeyLength);
    if (metadata.has(key)) throw reader.malformed(`metadata key ${quote(key)} occurs twice`);
    metadata.set(key, await readValue(reader, await readType(reader, key), key));
  }
  return metadata;
}

async function readType(reader: GgufReader, key: string): Promise<(typeof valueTypes)[number]> {
  const id = await reader.uint32();
  const type = valueTypes[id];
  if (type !== undefined) return type;
  throw reader.malformed(`metadata ${quote(key)} has value type ${id}, which the format does not know`);
}

async function readValue(
  reader: GgufReader,
  type: (typeof valueTypes)[number],
  key: string,
  depth = 0,
): Promise<GgufValue> {
  switch (type) {
    case "string":
      return reader.string(`metadata ${quote(key)}`);
    case "bool":
      return (await reader.number("uint8")) !== 0;
    case "array":
      return readArray(reader, key, depth + 1);
    default:
      return reader.number(type);
  }
}

async function readArray(reader: GgufReader, key: string, depth: number): Promise<GgufValue> {
  if (depth > maxDepth) throw reader.malformed(`metadata ${quote(key)} nests arrays deeper than ${maxDepth}`);
  const type = await readType(reader, key);
  const length = await reader.size(`the length of metadata ${quote(key)}`);
  if (length > maxArrayElements) throw reader.limit(`elements in metadata ${quote(key)}`, length, maxArrayElements);
  if (length > maxKeptElements && type !== "array") {
    if (type === "string") for (let i = 0; i < length; i++) await reader.skipString(`metadata ${quote(key)}`);
    else await reader.skip(length * (type === "bool" ? 1 : numberBytes[type]));
    return { length };
  }
  if (length > maxKeptElements) throw reader.limit(`arrays in metadata ${quote(key)}`, length, maxKeptElements);
  const values: GgufValue[] = [];
  for (let i = 0; i < length; i++) values.push(await readValue(reader, type, key, depth));
  return values;
}
