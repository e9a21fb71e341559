/** What a link to this extension asks for. Links come from anywhere: they show, and never start or change anything. */
export type Link = { kind: "run"; directory: string } | { kind: "file"; file: string } | null;

/** `vscode://reroute.reroute/run?folder=...` shows a run of this workspace, `/file?path=...` a recipe or tensor file of it. */
export function linkOf(path: string, query: string): Link {
  const parameters = new URLSearchParams(query);
  const directory = parameters.get("folder");
  if (path === "/run" && directory) return { kind: "run", directory };
  const file = parameters.get("path");
  if (path === "/file" && file && /\.(reroute\.json|safetensors|gguf)$/.test(file)) return { kind: "file", file };
  return null;
}
