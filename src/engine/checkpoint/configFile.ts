import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { JsonReader, type JsonValue } from "./jsonReader";
import { maxConfigBytes } from "./limits";
import { quote } from "./quote";
import { readSmallFile } from "./smallFile";

/**
 * config.json, or another JSON file with an object in it. Objects in the result have no prototype; NaN and Infinity,
 * which Python writes, are accepted.
 *
 * @throws RerouteError checkpoint/not-found, /limit, /malformed
 */
export async function readConfigFile(filePath: string): Promise<{ [key: string]: JsonValue }> {
  return parseConfig(await readSmallFile(filePath, maxConfigBytes), path.basename(filePath));
}

export function parseConfig(bytes: Uint8Array, fileName: string): { [key: string]: JsonValue } {
  const fail = (problem: string): never => {
    throw new RerouteError("checkpoint/malformed", `cannot read ${quote(fileName)}: ${problem}`);
  };
  const reader = new JsonReader(bytes, fail);
  const value = reader.peek() === 0x7b ? reader.readValue() : fail("it is not a JSON object");
  reader.readEnd();
  return value as { [key: string]: JsonValue };
}

/**
 * config.json as text. JavaScript has one kind of number, but transformers checks whether a setting is an int or a float:
 * "1.0" must not become "1". So a number that `original` (the bytes of the config it was made from) has at the same place
 * with the same value is written as it was spelled there. NaN and Infinity are written as Python does.
 */
export function formatConfig(config: unknown, original?: Uint8Array): string {
  return `${format(config, original ? spellings(original) : undefined, "\n")}\n`;
}

/** The shape of a JSON value, with the spelling of each number; strings and literals are left out. */
type Spelling = string | Spelling[] | Map<string, Spelling> | undefined;

function spellings(bytes: Uint8Array): Spelling {
  const reader = new JsonReader(bytes, (problem) => {
    throw new RerouteError("checkpoint/malformed", `cannot read the original config.json: ${problem}`);
  });
  const read = (): Spelling => {
    const first = reader.peek();
    if (first === 0x7b) {
      const members = new Map<string, Spelling>();
      reader.readObject((key) => members.set(key, read()));
      return members;
    }
    if (first === 0x5b) {
      const items: Spelling[] = [];
      reader.readArray(() => items.push(read()));
      return items;
    }
    if (first === 0x22) {
      reader.readString();
      return undefined;
    }
    return reader.readWord();
  };
  return read();
}

function format(value: unknown, spelling: Spelling, newLine: string): string {
  const inner = `${newLine}  `;
  if (Array.isArray(value)) {
    if (value.length === 0) return "[]";
    const items = value.map((item, i) => format(item, Array.isArray(spelling) ? spelling[i] : undefined, inner));
    return `[${inner}${items.join(`,${inner}`)}${newLine}]`;
  }
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .map(([key, member]) => {
        const known = spelling instanceof Map ? spelling.get(key) : undefined;
        return `${JSON.stringify(key)}: ${format(member, known, inner)}`;
      });
    return members.length === 0 ? "{}" : `{${inner}${members.join(`,${inner}`)}${newLine}}`;
  }
  if (typeof value === "number") {
    if (typeof spelling === "string" && Object.is(Number(spelling), value)) return spelling;
    return String(value);
  }
  return JSON.stringify(value);
}
