import { availableParallelism } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { colourScales, type ColourScale } from "../protocol/pageMessages";
import { memorySize, providerChoices, type ProviderChoice } from "../protocol/recipe";

export interface Settings {
  /** Null: the engine takes a share of what is free. */
  memory: string | null;
  /** Null: the engine decides. */
  threads: number | null;
  provider: ProviderChoice;
  /** Folder with another onnxruntime-node than the extension's; null when not set. */
  onnxruntimePath: string | null;
  /** Absolute path of the text proposed first; null when not set. */
  defaultData: string | null;
  runFolder: string;
  colourScale: ColourScale;
  onWindowClose: "ask" | "continue" | "stop";
  /** URL of the workers' queue, as it was written; null: runs are this machine's alone. */
  queue: string | null;
  allowInsecureQueue: boolean;
  localWorkers: number;
  /** Parts of the layers that a spread run's passes over the text are cut into; 1: they are not. */
  layerParts: number;
  /** Folders that workers elsewhere may read, as `--map` takes them. */
  workerFolders: string[];
}

/** Workers on one machine share its cores: more than these are a slip of the finger. */
export const mostLocalWorkers = 64;

const mostLayerParts = 1024;

/**
 * The settings as they are now, for a file or folder: each folder of the workspace may have its own. A value that package.json's
 * schema would underline falls back to the default.
 */
export function readSettings(about?: string): Settings {
  const resource = about === undefined ? undefined : vscode.Uri.file(about);
  const settings = vscode.workspace.getConfiguration("reroute", resource);
  const memory = settings.get<string>("memory", "").trim();
  const threads = settings.get<number>("threads", 0);
  const defaultData = settings.get<string>("defaultData", "").trim();
  const localWorkers = settings.get<number>("localWorkers", 1);
  const layerParts = settings.get<number>("layerParts", 1);
  const workerFolders = settings.get("workerFolders", []) as unknown;
  return {
    memory: memorySize.safeParse(memory).success ? memory : null,
    threads: Number.isInteger(threads) && threads > 0 ? Math.min(threads, availableParallelism()) : null,
    provider: oneOf(settings.get("provider"), providerChoices, "auto"),
    onnxruntimePath: settings.get<string>("onnxruntimePath", "").trim() || null,
    defaultData: defaultData === "" ? null : path.resolve(workspaceFolder(about) ?? "", defaultData),
    runFolder: settings.get<string>("runFolder", "").trim() || path.join(".reroute", "runs"),
    colourScale: oneOf(settings.get("colourScale"), colourScales, "viridis"),
    onWindowClose: oneOf(settings.get("onWindowClose"), ["ask", "continue", "stop"] as const, "continue"),
    queue: settings.get<string>("queue", "").trim() || null,
    allowInsecureQueue: settings.get<unknown>("allowInsecureQueue", false) === true,
    localWorkers: Number.isInteger(localWorkers) && localWorkers >= 0 ? Math.min(localWorkers, mostLocalWorkers) : 1,
    layerParts: Number.isInteger(layerParts) && layerParts >= 1 ? Math.min(layerParts, mostLayerParts) : 1,
    workerFolders: Array.isArray(workerFolders)
      ? workerFolders.filter((map): map is string => typeof map === "string" && map.trim() !== "")
      : [],
  };
}

/** The workspace's folder on disk that a file or folder lies in, else its first one; null without one. */
export function workspaceFolder(about?: string): string | null {
  const own = about === undefined ? undefined : vscode.workspace.getWorkspaceFolder(vscode.Uri.file(about));
  return own?.uri.fsPath ?? workspaceFolders()[0] ?? null;
}

function workspaceFolders(): string[] {
  const folders = vscode.workspace.workspaceFolders ?? [];
  return folders.flatMap(({ uri }) => (uri.scheme === "file" ? [uri.fsPath] : []));
}

/** Where runs about a file or folder are kept: in its workspace folder, or in the extension's own storage without one. */
export function runsFolder(context: Pick<vscode.ExtensionContext, "globalStorageUri">, about?: string): string {
  const folder = workspaceFolder(about);
  return path.resolve(folder ?? context.globalStorageUri.fsPath, readSettings(folder ?? undefined).runFolder);
}

/** The folders that runs are kept in, one of each folder of the workspace, each once. */
export function runsFolders(context: Pick<vscode.ExtensionContext, "globalStorageUri">): string[] {
  const folders = workspaceFolders().map((folder) => runsFolder(context, folder));
  return folders.length === 0 ? [runsFolder(context)] : [...new Set(folders)];
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], otherwise: T): T {
  return allowed.find((candidate) => candidate === value) ?? otherwise;
}
