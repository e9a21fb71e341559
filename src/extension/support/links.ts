import path from "node:path";

/** What a link to this extension asks to see. Links come from anywhere: they show, and never start or change anything. */
export type Link = { kind: "run" | "checkpoint" | "file"; path: string };

const shown = /(\.reroute\.json|compression-plan\.json|\.safetensors|\.gguf)$/;

/**
 * `vscode://reroute.reroute/open?run=...` shows a run, `?checkpoint=...` a checkpoint, `?file=...` a recipe, plan or weight file. One of
 * them, an absolute path without `..`, so that a link into a folder cannot lead out of it. Null for everything else.
 */
export function linkOf(route: string, query: string): Link | null {
  if (route !== "/open") return null;
  const [parameter, ...more] = new URLSearchParams(query);
  if (!parameter || more.length > 0) return null;
  const [kind, target] = parameter;
  if (kind !== "run" && kind !== "checkpoint" && kind !== "file") return null;
  const folder = target.replace(/(?<=.)[/\\]$/, "");
  if (target.includes("\0") || !path.isAbsolute(target) || path.normalize(folder) !== folder) return null;
  return kind === "file" && !shown.test(folder) ? null : { kind, path: folder };
}
