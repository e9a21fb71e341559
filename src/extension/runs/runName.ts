import path from "node:path";

/** Folder name of a new run: sortable by time, readable, without characters that a file system refuses. */
export function runId(name: string, now: Date, taken: (id: string) => boolean): string {
  const stamp = now.toISOString().slice(0, 19).replace("T", "_").replaceAll(":", "-");
  const readable = safeName(name);
  const base = readable === "" ? stamp : `${stamp}_${readable}`;
  let id = base;
  for (let n = 2; taken(id); n++) id = `${base}-${n}`;
  return id;
}

/** "Qwen3 30B / reap" -> "qwen3-30b-reap", at most 40 characters. */
export function safeName(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 40)
    .replace(/[-.]+$/, "");
}

/** A checkpoint's folder name; "org/name" of one in a Hugging Face cache, whose folder is named by a hash. */
export function checkpointName(folder: string): string {
  return hubModelOf(folder) ?? path.basename(folder);
}

/** "org/name" of a folder inside a Hugging Face cache (models--org--name/snapshots/<hash>); null elsewhere. */
function hubModelOf(folder: string): string | null {
  const [, id] = /[\\/]models--([^\\/]+)(?:[\\/]|$)/.exec(folder) ?? [];
  return id?.replace("--", "/") ?? null;
}

/**
 * Where a checkpoint's outputs go unless another place was chosen before: beside it where it is in the workspace, else into
 * the workspace. Never into a Hugging Face cache, which belongs to other programs.
 */
export function outputParent(checkpoint: string, workspace: string | null, home: string): string {
  const beside = path.dirname(checkpoint);
  const isBelow = (folder: string) => beside === folder || beside.startsWith(folder + path.sep);
  if (hubModelOf(checkpoint) !== null) return workspace ?? path.join(home, "reroute");
  return workspace === null || isBelow(workspace) ? beside : workspace;
}

/** A folder in `parent` that does not exist yet, named after the checkpoint and what is done to it. */
export function outputFolder(
  checkpoint: string,
  parent: string,
  suffix: string,
  exists: (folder: string) => boolean,
): string {
  const base = path.join(parent, `${path.basename(checkpointName(checkpoint))}-${safeName(suffix)}`);
  let folder = base;
  for (let n = 2; exists(folder); n++) folder = `${base}-${n}`;
  return path.normalize(folder);
}
