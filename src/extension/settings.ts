import { availableParallelism } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { colourScales, type ColourScale } from "../protocol/pageMessages";
import { executionProviders, memorySize, type ExecutionProvider } from "../protocol/recipe";

export interface Settings {
  /** Null: the engine takes a share of what is free. */
  memory: string | null;
  /** Null: the engine decides. */
  threads: number | null;
  provider: ExecutionProvider;
  /** Absolute path of the text proposed first; null when not set. */
  defaultData: string | null;
  runFolder: string;
  colourScale: ColourScale;
  onWindowClose: "ask" | "continue" | "stop";
}

/** The settings as they are now. A value that package.json's schema would underline falls back to the default. */
export function readSettings(): Settings {
  const settings = vscode.workspace.getConfiguration("reroute");
  const memory = settings.get<string>("memory", "").trim();
  const threads = settings.get<number>("threads", 0);
  const defaultData = settings.get<string>("defaultData", "").trim();
  return {
    memory: memorySize.safeParse(memory).success ? memory : null,
    threads: Number.isInteger(threads) && threads > 0 ? Math.min(threads, availableParallelism()) : null,
    provider: oneOf(settings.get("provider"), executionProviders, "cpu"),
    defaultData: defaultData === "" ? null : path.resolve(workspaceFolder() ?? "", defaultData),
    runFolder: settings.get<string>("runFolder", "").trim() || path.join(".reroute", "runs"),
    colourScale: oneOf(settings.get("colourScale"), colourScales, "viridis"),
    onWindowClose: oneOf(settings.get("onWindowClose"), ["ask", "continue", "stop"] as const, "ask"),
  };
}

/** The first folder on disk of the workspace; null without one. */
export function workspaceFolder(): string | null {
  return vscode.workspace.workspaceFolders?.find(({ uri }) => uri.scheme === "file")?.uri.fsPath ?? null;
}

/** Where runs are kept: in the workspace, or in the extension's own storage without one. */
export function runsFolder(context: vscode.ExtensionContext): string {
  return path.resolve(workspaceFolder() ?? context.globalStorageUri.fsPath, readSettings().runFolder);
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], otherwise: T): T {
  return allowed.find((candidate) => candidate === value) ?? otherwise;
}
