import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { runFiles } from "../../protocol/run";
import { resumeRun as resume } from "../runs/runInBackground";
import type { Services } from "../services";
import { pickRun } from "./pickRun";

/** Continues a run that was interrupted, cancelled or failed. */
export async function resumeRun(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services, ({ state }) =>
    ["interrupted", "cancelled", "failed", "pending"].includes(state),
  );
  if (run) await resume(run.directory, run.name, services);
}

/** Cancels the run that this window works on; the one a tree or page names, or else the first. */
export async function cancelRun(argument: unknown, services: Services): Promise<void> {
  const unfinished = services.runs.unfinished();
  const named = argument === undefined ? null : await pickRun(argument, services);
  const live = named ? unfinished.find(({ runDirectory }) => runDirectory === named.directory) : unfinished[0];
  if (!live) {
    void vscode.window.showInformationMessage(vscode.l10n.t("This window works on no such run"));
    return;
  }
  services.runs.cancel(live.runDirectory);
}

/** Opens the report: in the browser on a desktop, as a Markdown preview where the files are on another machine. */
export async function openReport(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services, ({ directory }) => existsSync(path.join(directory, runFiles.report)));
  if (!run) return;
  const report = path.join(run.directory, runFiles.report);
  if (!existsSync(report)) {
    void vscode.window.showInformationMessage(
      vscode.l10n.t("{0} has no report yet: it is written when the run ends", run.name),
    );
    return;
  }
  const local = vscode.env.uiKind === vscode.UIKind.Desktop && vscode.env.remoteName === undefined;
  if (local) await vscode.env.openExternal(vscode.Uri.file(report));
  else
    await vscode.commands.executeCommand(
      "markdown.showPreview",
      vscode.Uri.file(path.join(run.directory, runFiles.reportMarkdown)),
    );
}

/** Shows the run's folder in the system's file browser, or run.json where there is none. */
export async function openRunFolder(argument: unknown, services: Services): Promise<void> {
  const run = await pickRun(argument, services);
  if (!run) return;
  const file = vscode.Uri.file(path.join(run.directory, runFiles.run));
  if (vscode.env.remoteName === undefined && vscode.env.uiKind === vscode.UIKind.Desktop) {
    await vscode.commands.executeCommand("revealFileInOS", file);
  } else {
    await vscode.window.showTextDocument(file);
  }
}
