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

/** A folder beside the checkpoint that does not exist yet, named after what is done to it. */
export function outputFolder(checkpoint: string, suffix: string, exists: (folder: string) => boolean): string {
  const base = `${checkpoint}-${safeName(suffix)}`;
  let folder = base;
  for (let n = 2; exists(folder); n++) folder = `${base}-${n}`;
  return path.normalize(folder);
}
