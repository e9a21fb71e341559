import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { JsonReader } from "./jsonReader";
import { maxIndexBytes, maxShards, maxTensors } from "./limits";
import { quote } from "./quote";
import { checkFileName } from "./shardNames";
import { readSmallFile } from "./smallFile";

/**
 * Which shard holds each tensor, as `model.safetensors.index.json` says; shard names are checked for path tricks.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /limit, /unsafe-path
 */
export async function readIndexFile(filePath: string): Promise<Map<string, string>> {
  return parseIndex(await readSmallFile(filePath, maxIndexBytes), path.basename(filePath));
}

export function parseIndex(bytes: Uint8Array, fileName: string): Map<string, string> {
  const fail = (problem: string): never => {
    throw new RerouteError("checkpoint/malformed", `cannot read the index ${quote(fileName)}: ${problem}`);
  };
  const limit = (what: string): never => {
    throw new RerouteError("checkpoint/limit", `index ${quote(fileName)} names more than ${what}, which is the limit`);
  };
  const reader = new JsonReader(bytes, fail);
  const weightMap = new Map<string, string>();
  const shardNames = new Set<string>();
  let found = false;
  if (reader.peek() !== 0x7b) fail("it is not a JSON object");
  reader.readObject((key) => {
    if (key !== "weight_map") {
      reader.skipValue();
      return;
    }
    if (found) fail("weight_map occurs twice");
    found = true;
    if (reader.peek() !== 0x7b) fail("weight_map is not an object");
    reader.readObject((tensor) => {
      if (reader.peek() !== 0x22) fail(`the shard of tensor ${quote(tensor)} is not a string`);
      const shard = reader.readString();
      if (!shardNames.has(shard)) {
        checkFileName(shard, fileName);
        if (!shard.endsWith(".safetensors")) fail(`shard ${quote(shard)} is not a .safetensors file`);
        shardNames.add(shard);
      }
      if (weightMap.size === weightMap.set(tensor, shard).size) fail(`tensor ${quote(tensor)} occurs twice`);
      if (weightMap.size > maxTensors) limit(`${maxTensors} tensors`);
      if (shardNames.size > maxShards) limit(`${maxShards} shards`);
    });
  });
  reader.readEnd();
  if (!found) fail("it has no weight_map");
  if (weightMap.size === 0) fail("its weight_map is empty");
  return weightMap;
}
