import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import { saveFileName } from "../panels/fileName";
import { workspaceFolder } from "../settings";

/**
 * Asks where to save, then writes. False: the user cancelled.
 * @param about a file of the workspace folder that is proposed; without it the first one is
 * @throws arguments/invalid in Restricted Mode
 */
export async function saveWithDialog(
  proposedName: string,
  extension: "png" | "csv" | "json" | "html" | "md",
  content: Uint8Array,
  about?: string,
): Promise<boolean> {
  if (!vscode.workspace.isTrusted) {
    throw new RerouteError(
      "arguments/invalid",
      vscode.l10n.t("Nothing is written in Restricted Mode: trust this workspace first"),
    );
  }
  const name = saveFileName(proposedName, extension);
  const folder = workspaceFolder(about);
  const target = await vscode.window.showSaveDialog({
    title: vscode.l10n.t("Save {0}", name),
    ...(folder === null ? {} : { defaultUri: vscode.Uri.file(path.join(folder, name)) }),
    filters: { [extension.toUpperCase()]: [extension] },
  });
  if (!target) return false;
  await vscode.workspace.fs.writeFile(target, content);
  return true;
}
