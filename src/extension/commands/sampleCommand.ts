import path from "node:path";
import * as vscode from "vscode";
import { reached } from "../runs/walkthrough";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";

const folderName = "reroute-sample";

/** Copies the shipped checkpoint and texts into the workspace, or shows the copy that is already there. */
export async function openSampleCheckpoint({ context, checkpoints }: Services): Promise<void> {
  const parent = workspaceFolder() ?? (await askForFolder());
  if (parent === null) return;
  const target = vscode.Uri.file(path.join(parent, folderName));
  const source = vscode.Uri.joinPath(context.extensionUri, "media", "sample");
  const exists = await vscode.workspace.fs.stat(target).then(
    () => true,
    () => false,
  );
  // What is there may have been worked on: it is shown, never overwritten.
  if (!exists) await vscode.workspace.fs.copy(source, target, { overwrite: false });
  checkpoints.refresh();
  reached("hasSample");
  const config = vscode.Uri.joinPath(target, "checkpoint", "config.json");
  await vscode.commands.executeCommand("revealInExplorer", config);
  const calibrate = vscode.l10n.t("Calibrate Router");
  const choice = await vscode.window.showInformationMessage(
    vscode.l10n.t(
      "The sample is a small Mixture-of-Experts model of 6 layers with 32 experts each, and texts to calibrate it with",
    ),
    calibrate,
  );
  if (choice === calibrate) await vscode.commands.executeCommand("reroute.calibrateRouter", config);
}

async function askForFolder(): Promise<string | null> {
  const [folder] =
    (await vscode.window.showOpenDialog({
      canSelectFiles: false,
      canSelectFolders: true,
      openLabel: vscode.l10n.t("Copy the sample here"),
    })) ?? [];
  return folder?.fsPath ?? null;
}
