import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { ggufFileTypes, type GgufFileType } from "../../protocol/gguf";
import type { Services } from "../services";
import { pickCheckpoint } from "./pickCheckpoint";

/** Writes a checkpoint as one GGUF file for llama.cpp. */
export async function exportGgufCommand(argument: unknown, services: Services): Promise<void> {
  const folder = await pickCheckpoint(argument, services);
  if (folder === null) return;
  const type = await pickType();
  if (type === undefined) return;
  const target = await vscode.window.showSaveDialog({
    title: vscode.l10n.t("Export to GGUF"),
    defaultUri: vscode.Uri.file(freeName(folder, type)),
    filters: { GGUF: ["gguf"] },
  });
  if (!target) return;
  const file = target.fsPath;
  const { notes, architecture } = await vscode.window.withProgress(
    {
      location: vscode.ProgressLocation.Notification,
      title: vscode.l10n.t("Writing {0}...", path.basename(file)),
      cancellable: true,
    },
    async (progress, token) => {
      const abort = new AbortController();
      token.onCancellationRequested(() => abort.abort());
      let shown = 0;
      const stop = services.engine.onEvent((event) => {
        if (event.name !== "export/progress" || event.body.file !== file) return;
        const percent = Math.floor((100 * event.body.done) / Math.max(1, event.body.total));
        progress.report({ increment: percent - shown, message: `${percent} %` });
        shown = percent;
      });
      try {
        return await services.engine.request("checkpoint/exportGguf", { path: folder, file, type }, abort.signal);
      } finally {
        stop();
      }
    },
  );
  const reveal = vscode.l10n.t("Show in Folder");
  const message = [vscode.l10n.t("{0} is written for llama.cpp ({1})", path.basename(file), architecture), ...notes];
  const choice = await vscode.window.showInformationMessage(message.join(". "), reveal);
  if (choice === reveal) await vscode.commands.executeCommand("revealFileInOS", target);
}

async function pickType(): Promise<GgufFileType | undefined> {
  const details: Record<GgufFileType, string> = {
    f16: vscode.l10n.t("16 bits a weight: the checkpoint's own numbers"),
    q8_0: vscode.l10n.t("8.5 bits a weight"),
    q4_0: vscode.l10n.t("experts with 4.5 bits a weight, everything else with 8.5"),
    mxfp4: vscode.l10n.t("experts with 4.25 bits a weight, everything else with 8.5"),
  };
  const items = ggufFileTypes.map((type) => ({ label: type.toUpperCase(), description: details[type], type }));
  const picked = await vscode.window.showQuickPick(items, {
    placeHolder: vscode.l10n.t("How should the experts be stored?"),
  });
  return picked?.type;
}

/** Beside the checkpoint's folder, under a name that is not taken: nothing existing is ever replaced. */
function freeName(folder: string, type: GgufFileType): string {
  const stem = path.join(path.dirname(folder), `${path.basename(folder)}-${type}`);
  for (let count = 1; ; count++) {
    const name = `${stem}${count === 1 ? "" : `-${count}`}.gguf`;
    if (!existsSync(name)) return name;
  }
}
