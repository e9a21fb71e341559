import { existsSync } from "node:fs";
import path from "node:path";
import { runFiles } from "../../protocol/run";

/**
 * The checkpoint folder that a right-clicked path means: the folder itself, or the one its config.json, shard or index
 * lies in. Null for anything else.
 */
export function checkpointFolderOf(fsPath: string, isDirectory: boolean): string | null {
  if (isDirectory) return fsPath;
  const name = path.basename(fsPath);
  const belongs = name === "config.json" || name.endsWith(".safetensors") || name.endsWith(".safetensors.index.json");
  return belongs ? path.dirname(fsPath) : null;
}

/** "org/name" of a model's folder in a Hugging Face cache, or of one of its snapshots; null for every other folder. */
export function hubModelOf(folder: string): string | null {
  const inCache = /[/\\]models--([^/\\]+)(?:[/\\]snapshots[/\\][^/\\]+)?[/\\]?$/.exec(folder);
  return inCache === null ? null : inCache[1]!.replace("--", "/");
}

/** What a checkpoint is called in lists. A snapshot of a download cache has a hash for its name: the model's tells more. Those that runs keep are all called the same: the run's name tells them apart. */
export function checkpointLabel(folder: string): string {
  const hub = hubModelOf(folder);
  if (hub !== null) return hub;
  const name = path.basename(folder);
  const parent = path.dirname(folder);
  if (!existsSync(path.join(parent, runFiles.run))) return name;
  // Without the time in front, which alone would fill a narrow side bar.
  const run = path.basename(parent).replace(/^\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_(?=.)/, "");
  return `${run}/${name}`;
}

/**
 * What is nobody's to open: the checkpoint that a run keeps between its compression and its calibration, whose result lies in its output
 * folder; and the folders in which a Hugging Face cache keeps files and marks that its snapshots name.
 */
export function isInternal(folder: string): boolean {
  if (/[/\\]models--[^/\\]+[/\\](blobs|refs|\.no_exist)([/\\]|$)/.test(folder)) return true;
  return path.basename(folder) === runFiles.compressed && existsSync(path.join(path.dirname(folder), runFiles.run));
}

/** Whether a name holds every word of a filter, in any order and case. */
export function matchesFilter(name: string, filter: string): boolean {
  const words = filter.toLowerCase().split(/\s+/);
  return words.every((word) => name.toLowerCase().includes(word));
}
