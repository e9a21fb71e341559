import * as vscode from "vscode";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { resumeInBackground } from "./runInBackground";
import { unfinishedRuns } from "./unfinishedRuns";

/** At start-up: runs that the last window left unfinished are offered once, all in one notification. */
export async function offerResume(services: Services): Promise<void> {
  if (!vscode.workspace.isTrusted || readSettings().onWindowClose === "stop") return;
  const [first, ...others] = services.runList.folders.flatMap(unfinishedRuns);
  if (!first) return;
  const resume = vscode.l10n.t("Resume");
  const show = vscode.l10n.t("Show Runs");
  const message =
    others.length === 0
      ? vscode.l10n.t("The run {0} was not finished", first.name)
      : vscode.l10n.t("{0} runs were not finished, the first is {1}", others.length + 1, first.name);
  const choice = await vscode.window.showInformationMessage(message, resume, show);
  if (choice === show) await vscode.commands.executeCommand("reroute.runs.focus");
  if (choice === resume)
    for (const run of [first, ...others]) await resumeInBackground(run.runDirectory, run.name, services);
}
