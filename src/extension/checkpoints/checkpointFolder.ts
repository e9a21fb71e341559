import path from "node:path";

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
