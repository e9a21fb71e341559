import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import type { Checkpoint, TensorEntry } from "./checkpoint";
import { readConfigFile } from "./configFile";
import { readError } from "./fileErrors";
import { checkIndex } from "./indexCheck";
import { readIndexFile } from "./indexFile";
import { maxShards, maxTensors } from "./limits";
import { incompleteMarker } from "./outputNames";
import { quote } from "./quote";
import { openShard } from "./shardFile";

const indexSuffix = ".safetensors.index.json";

/**
 * Opens a checkpoint from its folder, its config.json, one of its .safetensors files or its index. Reads headers only.
 *
 * Which files belong to it: those of the index when the path is an index; else `model.safetensors` where it exists, as
 * transformers prefers it; else those of `model.safetensors.index.json`; else every .safetensors file of the folder.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /truncated, /limit, /unsafe-path, /unsupported-dtype
 */
export async function openCheckpoint(checkpointPath: string): Promise<Checkpoint> {
  const { directory, file } = await locate(checkpointPath);
  const names = await listFolder(directory);
  if (names.includes(incompleteMarker)) {
    throw new RerouteError(
      "checkpoint/malformed",
      `${quote(directory)} is an unfinished output of Reroute (it holds ${incompleteMarker}); resume the run that writes it, or delete the folder`,
    );
  }
  const config = await readConfigFile(path.join(directory, "config.json"));
  const indexName = file?.endsWith(indexSuffix)
    ? file
    : names.includes("model.safetensors")
      ? undefined
      : names.find((name) => name === `model${indexSuffix}`);
  const index = indexName === undefined ? undefined : await readIndexFile(path.join(directory, indexName));
  const shardNames = index ? [...index.shardNames].sort() : unindexedShards(names, directory);
  if (file?.endsWith(".safetensors") && !shardNames.includes(file)) {
    throw new RerouteError(
      "checkpoint/not-found",
      `${quote(file)} is not one of the checkpoint's files in ${quote(directory)}, which are ${shardNames.slice(0, 5).map(quote).join(", ")}${shardNames.length > 5 ? ", ..." : ""}`,
    );
  }
  const opened = await mapLimited(shardNames, 8, (name) => openShard(path.join(directory, name)));
  const byShard = opened.map((shard) => shard.tensors);
  const tensors = unite(byShard);
  if (index) checkIndex(index, byShard, tensors, indexName!);
  return { directory, config, shards: opened.map(({ shard }) => shard), tensors };
}

async function locate(checkpointPath: string): Promise<{ directory: string; file?: string }> {
  const absolute = path.resolve(checkpointPath);
  try {
    if ((await stat(absolute)).isDirectory()) return { directory: absolute };
  } catch (error) {
    throw readError(error, absolute);
  }
  const file = path.basename(absolute);
  if (file === "config.json" || file.endsWith(".safetensors") || file.endsWith(indexSuffix)) {
    return { directory: path.dirname(absolute), file };
  }
  throw new RerouteError(
    "checkpoint/not-found",
    `${quote(absolute)} is not a checkpoint; expected a folder, its config.json, a .safetensors file or its index`,
  );
}

async function listFolder(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    throw readError(error, directory);
  }
}

function unindexedShards(names: string[], directory: string): string[] {
  if (names.includes("model.safetensors")) return ["model.safetensors"];
  const shards = names.filter((name) => name.endsWith(".safetensors") && !name.startsWith(".")).sort();
  if (shards.length > maxShards) {
    throw new RerouteError(
      "checkpoint/limit",
      `${quote(directory)} holds ${shards.length} .safetensors files, the limit is ${maxShards}`,
    );
  }
  if (shards.length > 0) return shards;
  const others = names.filter((name) => /\.(bin|pt|pth|gguf)$/.test(name)).slice(0, 3);
  const advice =
    others.length > 0
      ? `it holds ${others.map(quote).join(", ")}; convert the weights to safetensors first`
      : "check the path, or download the weights";
  throw new RerouteError("checkpoint/not-found", `${quote(directory)} holds no .safetensors file: ${advice}`);
}

function unite(shards: TensorEntry[][]): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  let count = 0;
  for (const entries of shards) {
    for (const entry of entries) if (tensors.set(entry.name, entry).size !== ++count) refuseTwice(entry.name, shards);
    if (tensors.size > maxTensors) {
      throw new RerouteError(
        "checkpoint/limit",
        `the checkpoint has more than ${maxTensors} tensors, which is the limit`,
      );
    }
  }
  return tensors;
}

function refuseTwice(name: string, shards: TensorEntry[][]): never {
  const [first, second] = shards.flat().filter((entry) => entry.name === name);
  throw new RerouteError(
    "checkpoint/malformed",
    `tensor ${quote(name)} is in two files, ${quote(first!.shard.name)} and ${quote(second!.shard.name)}; expected one`,
  );
}

/** Like Promise.all over a map with at most `limit` at work; stops starting more after a failure. */
async function mapLimited<T, R>(items: T[], limit: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const i = next++;
      try {
        results[i] = await work(items[i]!);
      } catch (error) {
        next = items.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
