import { existsSync } from "node:fs";
import type { ErrorCode } from "../protocol/errors";

/** What a button of an error message does; failure.ts does it. */
export type FailureAction =
  | { kind: "log" }
  | { kind: "documentation"; document: string }
  | { kind: "setting"; setting: string }
  | { kind: "line"; file: string; line: number }
  | { kind: "editRecipe" }
  | { kind: "chooseFolder" }
  | { kind: "resume" }
  | { kind: "cancelOther" };

const documents: [begins: string, document: string][] = [
  ["data/", "data.md"],
  ["model/", "families.md"],
  ["plan/", "compression-methods.md"],
  ["preflight/", "run-folder.md"],
  ["output/", "run-folder.md"],
  ["run/", "run-folder.md"],
  ["trace/", "cli.md"],
  ["teacher/", "calibration.md"],
  ["training/", "calibration.md"],
  ["queue/", "workers.md"],
];

/** The page of the shipped documentation that says most about a code; every code is in errors.md. */
export function documentOf(code: ErrorCode): string {
  return documents.find(([begins]) => code.startsWith(begins))?.[1] ?? "errors.md";
}

const settings: Partial<Record<ErrorCode, string>> = {
  "runtime/provider": "reroute.provider",
  "runtime/provider-wrong": "reroute.provider",
  "preflight/memory": "reroute.memory",
  "preflight/disk": "reroute.runFolder",
  "queue/unavailable": "reroute.queue",
  "queue/insecure": "reroute.queue",
};

/** Failures that another recipe would not have: its output, texts, amounts, plan or options are edited. */
const ofRecipe = new Set<ErrorCode>([
  "output/not-empty",
  "output/write-failed",
  "preflight/disk",
  "preflight/memory",
  "plan/invalid",
  "data/not-found",
  "data/too-few-tokens",
  "data/trained-on",
  "data/tokenizer",
  "teacher/mismatch",
  "training/not-finite",
  "runtime/provider",
  "runtime/provider-wrong",
]);

/** Failures that the same recipe would not have with its result in another folder. */
const ofOutput = new Set<ErrorCode>(["output/not-empty", "output/write-failed", "preflight/disk"]);

/** What a failure ended, whose recipe can be edited and which can go on; null: neither. */
export type Failed = "run" | "comparison" | null;

/** What can be done about a failure, most helpful first. */
export function failureActions(code: ErrorCode, message: string, of: Failed): FailureAction[] {
  const actions: FailureAction[] = [];
  const isOfRun = of !== null;
  const line = lineIn(message);
  if (line) actions.push({ kind: "line", ...line });
  if (code === "run/locked" && isOfRun) actions.push({ kind: "cancelOther" });
  if (of === "run" && ofOutput.has(code)) actions.push({ kind: "chooseFolder" });
  if (isOfRun && ofRecipe.has(code)) actions.push({ kind: "editRecipe" });
  const setting = settings[code];
  if (setting !== undefined) actions.push({ kind: "setting", setting });
  // Of a comparison, what can be mended outside of it is tried again: all its cells stood still.
  const isMended = code === "engine/closed" || line !== null || (of === "comparison" && code !== "run/locked");
  if (isOfRun && isMended) actions.push({ kind: "resume" });
  const deep = code === "internal" || code === "engine/closed" || code.startsWith("runtime/");
  if (deep || message.includes("\n")) actions.push({ kind: "log" });
  if (code !== "internal") actions.push({ kind: "documentation", document: documentOf(code) });
  return actions;
}

/** "line 12 of /texts/a.jsonl, byte 40": the place that a message names, where there is such a file. */
export function lineIn(
  message: string,
  exists: (file: string) => boolean = existsSync,
): { file: string; line: number } | null {
  const [, line, rest] = /\bline (\d+) of (.+)/.exec(message) ?? [];
  if (line === undefined || rest === undefined) return null;
  // A path may hold spaces, commas and colons: the longest beginning that is a file.
  const ends = [...rest.matchAll(/$|[\s,:;]/g)].map(({ index }) => index).reverse();
  for (const end of ends) {
    const file = rest.slice(0, end).replace(/^"|"$/g, "");
    if (file !== "" && exists(file)) return { file, line: Number(line) };
  }
  return null;
}
