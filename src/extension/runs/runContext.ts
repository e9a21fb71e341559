import path from "node:path";
import { distillationFiles } from "../../protocol/distillation";
import type { RunSummary } from "../../protocol/panels";
import { runFiles } from "../../protocol/run";

/** Pages that few runs have, each by the file that it shows. */
export const pageFiles = {
  workers: runFiles.workersTimeline,
  distillation: distillationFiles.json,
} as const;
export type FilePage = keyof typeof pageFiles;

export function hasPage(page: FilePage, directory: string, exists: (file: string) => boolean): boolean {
  return exists(path.join(directory, pageFiles[page]));
}

/**
 * What menus of the Runs tree look at: "run" or "comparison", the pages of few runs that this one has, and how it stands, so
 * "run.workers.done". "elsewhere": another process works on it.
 */
export function runContext(
  kind: "run" | "comparison",
  directory: string,
  state: RunSummary["state"] | "live",
  exists: (file: string) => boolean,
): string {
  const pages = (Object.keys(pageFiles) as FilePage[]).filter((page) => hasPage(page, directory, exists));
  return [kind, ...pages, standingOf(state)].join(".");
}

function standingOf(state: RunSummary["state"] | "live"): string {
  if (state === "done" || state === "live") return state;
  return state === "running" ? "elsewhere" : "resumable";
}
