import { statSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { checkpointFolderOf, checkpointLabel } from "../checkpoints/checkpointFolder";
import type { Services } from "../services";

/** The checkpoint folder a command is about: what was right-clicked, the tree's item, or what the user picks. */
export async function pickCheckpoint(argument: unknown, { checkpoints }: Services): Promise<string | null> {
  if (argument instanceof vscode.Uri) return folderOfUri(argument);
  if (isCheckpointNode(argument)) return argument.folder;
  const folders = await checkpoints.list();
  const items = folders.map((folder) => ({
    label: checkpointLabel(folder),
    description: path.dirname(vscode.workspace.asRelativePath(folder)),
    iconPath: new vscode.ThemeIcon("package"),
    folder,
  }));
  const { models } = await checkpoints.hubModels();
  const cached = models.map(({ id, directory }) => ({
    label: id,
    description: vscode.l10n.t("Hugging Face cache"),
    iconPath: new vscode.ThemeIcon("cloud-download"),
    folder: directory,
  }));
  const browse = {
    label: vscode.l10n.t("Browse..."),
    description: "",
    iconPath: new vscode.ThemeIcon("folder-opened"),
    folder: null,
  };
  const picked = await vscode.window.showQuickPick([...items, ...cached, browse], {
    placeHolder: vscode.l10n.t("Which checkpoint?"),
  });
  if (!picked) return null;
  if (picked.folder !== null) return picked.folder;
  const [folder] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
  return folder?.fsPath ?? null;
}

function folderOfUri(uri: vscode.Uri): string | null {
  const isDirectory = statSync(uri.fsPath, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const folder = checkpointFolderOf(uri.fsPath, isDirectory);
  if (folder === null) {
    void vscode.window.showErrorMessage(
      vscode.l10n.t("{0} is neither a checkpoint folder nor one of its files", vscode.workspace.asRelativePath(uri)),
    );
  }
  return folder;
}

function isCheckpointNode(value: unknown): value is { folder: string } {
  return typeof value === "object" && value !== null && "folder" in value && typeof value.folder === "string";
}
