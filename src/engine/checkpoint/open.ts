import path from "node:path";
import { readdir, stat } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { incompleteMarker } from "./atomicFile";
import type { Checkpoint, TensorEntry } from "./checkpoint";
import { readConfigFile } from "./configFile";
import { placeTensors } from "./indexCheck";
import { readIndexFile } from "./indexFile";
import { maxShards, maxTensors } from "./limits";
import { explainFolder } from "./noCheckpoint";
import { quote } from "./quote";
import { openShard } from "./shardFile";
import { readError } from "./smallFile";

const indexSuffix = ".safetensors.index.json";

/**
 * Opens a checkpoint from its folder, its config.json, one of its .safetensors files or its index. Reads headers only.
 *
 * Which files belong to it: those of the index when the path is an index; else `model.safetensors` where it exists, as
 * transformers prefers it; else those of `model.safetensors.index.json`; else every .safetensors file of the folder.
 *
 * @throws RerouteError checkpoint/not-found, /malformed, /truncated, /limit, /unsafe-path, /unsupported-dtype,
 *   /lfs-pointer, /adapter
 *
 * @param options unfinished: also an output whose writer has yet to say that it is done
 */
export async function openCheckpoint(
  checkpointPath: string,
  { unfinished = false }: { unfinished?: boolean } = {},
): Promise<Checkpoint> {
  const { directory, file } = await locate(checkpointPath);
  const names = await listFolder(directory);
  if (names.includes(incompleteMarker) && !unfinished) {
    throw new RerouteError(
      "checkpoint/malformed",
      `${quote(directory)} is an unfinished output of Reroute (it holds ${incompleteMarker}); resume the run that writes it, or delete the folder`,
    );
  }
  if (!names.includes("config.json")) throw await explainFolder(directory, names);
  const config = await readConfigFile(path.join(directory, "config.json"));
  const notes: string[] = [];
  const indexName = chooseIndex(names, file, notes);
  const index = indexName === undefined ? undefined : await readIndexFile(path.join(directory, indexName));
  const shardNames = index ? [...index.shardNames].sort() : await unindexedShards(names, directory);
  if (index) checkShardsExist(shardNames, names, indexName!);
  if (file?.endsWith(".safetensors") && !shardNames.includes(file)) {
    throw new RerouteError(
      "checkpoint/not-found",
      `${quote(file)} is not one of the checkpoint's files in ${quote(directory)}, which are ${shardNames.slice(0, 5).map(quote).join(", ")}${shardNames.length > 5 ? ", ..." : ""}`,
    );
  }
  const opened = await mapLimited(shardNames, 8, (name) => openShard(path.join(directory, name)));
  const byShard = opened.map((shard) => shard.tensors);
  checkCount(byShard);
  const placed = index ? placeTensors(index, byShard, indexName!) : { tensors: unite(byShard), notes: [] };
  const { tensors, isPrefixed } = asCausalModel(placed.tensors);
  if (isPrefixed) {
    notes.push('saved from the base model: names are read with "model." in front, as transformers does');
  }
  const shards = opened.map(({ shard }) => shard);
  return { directory, config, shards, tensors, notes: [...placed.notes, ...notes] };
}

function chooseIndex(names: readonly string[], file: string | undefined, notes: string[]): string | undefined {
  if (file?.endsWith(indexSuffix)) return file;
  const index = names.find((name) => name === `model${indexSuffix}`);
  if (!names.includes("model.safetensors")) return index;
  if (index !== undefined) {
    notes.push(`model.safetensors is read and ${index} is not, as in transformers; name the index to read its files`);
  }
  return undefined;
}

function checkShardsExist(shardNames: readonly string[], names: readonly string[], indexName: string): void {
  const there = new Set(names);
  const missing = shardNames.filter((name) => !there.has(name));
  if (missing.length === 0) return;
  throw new RerouteError(
    "checkpoint/not-found",
    `${quote(indexName)} names ${shardNames.length} files, of which ${missing.length} ${missing.length === 1 ? "is" : "are"} not there: ${missing.slice(0, 3).map(quote).join(", ")}${missing.length > 3 ? ", ..." : ""}; download ${missing.length === 1 ? "it" : "them"}`,
  );
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

async function unindexedShards(names: string[], directory: string): Promise<string[]> {
  if (names.includes("model.safetensors")) return ["model.safetensors"];
  const shards = names.filter((name) => name.endsWith(".safetensors") && !name.startsWith(".")).sort();
  if (shards.length > maxShards) {
    throw new RerouteError(
      "checkpoint/limit",
      `${quote(directory)} holds ${shards.length} .safetensors files, the limit is ${maxShards}`,
    );
  }
  const onlyAdapter = shards.length > 0 && shards.every((name) => name.startsWith("adapter_model"));
  if (shards.length === 0 || onlyAdapter) throw await explainFolder(directory, names);
  return shards;
}

function checkCount(shards: readonly (readonly unknown[])[]): void {
  if (shards.reduce((sum, { length }) => sum + length, 0) <= maxTensors) return;
  throw new RerouteError("checkpoint/limit", `the checkpoint has more than ${maxTensors} tensors, which is the limit`);
}

function unite(shards: TensorEntry[][]): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  let count = 0;
  for (const entries of shards) {
    for (const entry of entries) if (tensors.set(entry.name, entry).size !== ++count) refuseTwice(entry.name, shards);
  }
  return tensors;
}

/**
 * A saved base model (`AutoModel`) lacks the prefix that the causal model has its parts under; transformers adds it when
 * it loads one as the other. Entries of other parts, such as a head stored along, keep their names.
 */
function asCausalModel(tensors: Map<string, TensorEntry>): { tensors: Map<string, TensorEntry>; isPrefixed: boolean } {
  const isBase = ["embed_tokens.weight", "norm.weight"].every((name) => tensors.has(name));
  if (!isBase || tensors.has("model.embed_tokens.weight")) return { tensors, isPrefixed: false };
  const ofBase = /^(?:embed_tokens|norm|layers|rotary_emb)\./;
  const renamed = [...tensors.values()].map((entry): [string, TensorEntry] => {
    const name = ofBase.test(entry.name) ? `model.${entry.name}` : entry.name;
    return [name, { ...entry, name }];
  });
  return { tensors: new Map(renamed), isPrefixed: true };
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
