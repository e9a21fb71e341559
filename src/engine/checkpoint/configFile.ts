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
