import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { JsonReader } from "./jsonReader";
import { maxIndexBytes, maxShards, maxTensors } from "./limits";
import { quote } from "./quote";
import { readSmallFile } from "./smallFile";

/** Which shard holds each tensor, as an index says. Lists, because a table of 100,000 names takes as long as reading them. */
export interface ShardIndex {
  /** In the order of the index. Whether one occurs twice is for checkIndex to say. */
  names: string[];
  /** Index into `shardNames` of each tensor's shard. */
  shardOf: number[];
  /** Each once, checked for path tricks. */
  shardNames: string[];
}

/**
 * Reads `model.safetensors.index.json`.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /limit, /unsafe-path
 */
export async function readIndexFile(filePath: string): Promise<ShardIndex> {
  return parseIndex(await readSmallFile(filePath, maxIndexBytes), path.basename(filePath));
}

export function parseIndex(bytes: Uint8Array, fileName: string): ShardIndex {
  const fail = (problem: string): never => malformedIndex(fileName, problem);
  const limit = (what: string): never => {
    throw new RerouteError("checkpoint/limit", `index ${quote(fileName)} names more than ${what}, which is the limit`);
  };
  const reader = new JsonReader(bytes, fail);
  const names: string[] = [];
  const shardOf: number[] = [];
  const shardIds = new Map<string, number>();
  const idOf = (shard: string): number => {
    const known = shardIds.get(shard);
    if (known !== undefined) return known;
    checkFileName(shard, fileName);
    if (!shard.endsWith(".safetensors")) fail(`shard ${quote(shard)} is not a .safetensors file`);
    shardIds.set(shard, shardIds.size);
    if (shardIds.size > maxShards) limit(`${maxShards} shards`);
    return shardIds.size - 1;
  };
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
      shardOf.push(idOf(reader.readString()));
      if (names.push(tensor) > maxTensors) limit(`${maxTensors} tensors`);
    });
  });
  reader.readEnd();
  if (!found) fail("it has no weight_map");
  if (names.length === 0) fail("its weight_map is empty");
  return { names, shardOf, shardNames: [...shardIds.keys()] };
}

export function malformedIndex(fileName: string, problem: string): never {
  throw new RerouteError("checkpoint/malformed", `cannot read the index ${quote(fileName)}: ${problem}`);
}

/**
 * Refuses names from an index (or of files to write) that could lead out of the folder. A download cache may well hold
 * symbolic links that lead elsewhere: the user made those, the index did not.
 *
 * @throws RerouteError checkpoint/unsafe-path
 */
export function checkFileName(name: string, namedBy: string): void {
  const problem =
    name === "" || name === "." || name === ".."
      ? "is not a file name"
      : /[/\\]/.test(name)
        ? "contains a path separator"
        : name.includes("\0")
          ? "contains a NUL character"
          : name.includes(":")
            ? "contains a colon, which names a drive or stream on Windows"
            : name.length > 255
              ? "is longer than 255 characters"
              : undefined;
  if (problem === undefined) return;
  throw new RerouteError(
    "checkpoint/unsafe-path",
    `${quote(namedBy)} names the file ${quote(name)}, which ${problem}; expected a plain name of a file in the same folder`,
  );
}
