import path from "node:path";
import { copyFile, mkdir, open, rename } from "node:fs/promises";
import { RerouteError } from "../../protocol/errors";
import { byteLengthOf } from "../tensor/dtype";
import { syncFolder, writeError, writeFileAtomically, partialName } from "./atomicFile";
import { companionFiles } from "./companionFiles";
import { formatConfig } from "./configFile";
import { requireFreeSpace } from "./diskSpace";
import { checkFileName } from "./indexFile";
import { maxConfigBytes } from "./limits";
import { claimOutputFolder, completeOutput } from "./outputFolder";
import { formatIndex, indexName, isShardName, planShards } from "./shardPlan";
import { writeShard } from "./shardWriter";
import { readSmallFile } from "./smallFile";
import { SourceFiles } from "./sourceFiles";
import { checkSources, type TensorSource } from "./tensorSource";

/** A size that every file system takes except FAT32, that uploads well, and that keeps the number of files low. */
export const defaultMaxShardBytes = 4 * 2 ** 30;

export interface WriteCheckpointOptions {
  directory: string;
  /** Distributed over shards in this order; within a shard by dtype and name. */
  tensors: readonly TensorSource[];
  config: { [key: string]: unknown };
  /** Checkpoint folder whose files beside the weights go along (companionFiles), and whose config.json spells numbers. */
  copyFilesFrom?: string;
  /** Other files to write, such as reroute.json: name to content. They replace copied ones. */
  extraFiles?: { [name: string]: string | Uint8Array };
  maxShardBytes?: number;
  /** Names the attempt: leftovers of an earlier one with the same id are replaced. Without it, leftovers are refused. */
  runId?: string;
  /**
   * Leaves the folder marked as unfinished: the caller records that it is done, then calls `completeOutput`. A run killed
   * between the two writes again instead of finding a folder in its way.
   */
  leaveMarker?: boolean;
  signal?: AbortSignal;
  /** Bytes of tensors and headers written so far, and in all (headers not counted). */
  onProgress?: (progress: { bytes: number; totalBytes: number }) => void;
}

/**
 * Writes a checkpoint folder in bounded memory; copied tensors keep their bytes. Files get temporary names and are renamed
 * when all are complete, the index last, so no loader ever takes a broken output for a checkpoint. On failure or
 * cancellation everything written is removed.
 *
 * @returns names of the shards, and the bytes of all tensors
 * @throws RerouteError output/not-empty, output/write-failed, preflight/disk, checkpoint/changed and the other read
 *   errors, cancelled
 */
export async function writeCheckpoint(options: WriteCheckpointOptions): Promise<{ shards: string[]; bytes: number }> {
  const { directory, tensors, copyFilesFrom, extraFiles = {}, signal } = options;
  checkSources(tensors);
  const totalBytes = tensors.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, shape), 0);
  const shards = planShards(tensors, options.maxShardBytes ?? defaultMaxShardBytes);
  const index = formatIndex(shards);
  const texts = new Map<string, string | Uint8Array>(Object.entries(extraFiles));
  for (const name of texts.keys()) checkFileName(name, "the list of files to write");
  texts.set("config.json", formatConfig(options.config, await originalConfig(copyFilesFrom)));
  const companions = copyFilesFrom === undefined ? [] : await companionFiles(copyFilesFrom, directory);
  const copied = companions.filter(({ name }) => !texts.has(name) && !isShardName(name));
  const copiedNames = new Set(copied.flatMap(({ name }) => [name, ...foldersOf(name).map((folder) => `${folder}/`)]));
  await requireFreeSpace(directory, totalBytes + copied.reduce((sum, { bytes }) => sum + bytes, 0));

  const isOurs = (name: string) => texts.has(name) || copiedNames.has(name) || isShardName(name) || name === indexName;
  const output = await claimOutputFolder(directory, options.runId ?? `unnamed ${process.pid} ${Date.now()}`, isOurs);
  const sources = new SourceFiles();
  const at = (name: string) => path.join(directory, name);
  let bytes = 0;
  try {
    for (const shard of shards) {
      await writeShard(at(partialName(shard.name)), shard.tensors, { format: "pt" }, sources, {
        signal,
        onBytes: (written) => {
          bytes += written;
          options.onProgress?.({ bytes, totalBytes });
        },
      });
    }
    await sources.close();
    for (const folder of new Set(copied.flatMap(({ name }) => foldersOf(name))))
      await mkdir(at(folder), { recursive: true });
    for (const { name, source } of copied) await copyAtomically(source, at(name));
    for (const [name, text] of texts) await writeFileAtomically(at(name), text);
    for (const { name } of shards) await rename(at(partialName(name)), at(name));
    await syncFolder(directory);
    if (index !== null) await writeFileAtomically(at(indexName), index);
    if (options.leaveMarker !== true) await completeOutput(directory);
    return { shards: shards.map(({ name }) => name), bytes: totalBytes };
  } catch (error) {
    await sources.close().catch(() => undefined);
    await output.discard().catch(() => undefined);
    throw writeError(error, directory);
  }
}

/** Folders that a path leads through, outermost first: "a/b/c.py" -> ["a", "a/b"]. */
function foldersOf(name: string): string[] {
  const parts = name.split("/").slice(0, -1);
  return parts.map((_, i) => parts.slice(0, i + 1).join("/"));
}

async function originalConfig(directory: string | undefined): Promise<Uint8Array | undefined> {
  if (directory === undefined) return undefined;
  try {
    return await readSmallFile(path.join(directory, "config.json"), maxConfigBytes);
  } catch (error) {
    if (error instanceof RerouteError && error.code === "checkpoint/not-found") return undefined;
    throw error;
  }
}

async function copyAtomically(from: string, to: string): Promise<void> {
  const temporary = path.join(path.dirname(to), partialName(path.basename(to)));
  await copyFile(from, temporary);
  const file = await open(temporary, "r+");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, to);
}
