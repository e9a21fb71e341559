import { existsSync } from "node:fs";
import * as vscode from "vscode";
import type { RunSummary } from "../../protocol/panels";
import type { PanelHost } from "../panels/panelHost";
import type { PanelPage } from "../panels/pageKinds";
import type { Services } from "../services";
import { isComparison } from "../runs/comparisonFolders";
import { hasPage } from "../runs/runContext";
import { directoryOf, pickRun } from "./pickRun";

/** Opens a panel for a run; the trade-off is over all runs, or over the cells of the comparison that is named. */
export async function openPanel(
  page: PanelPage,
  argument: unknown,
  services: Services,
  panels: PanelHost,
): Promise<void> {
  if (page === "tradeOff") {
    const named = directoryOf(argument);
    const runsFolder = named !== null && isComparison(named) ? named : services.runList.folder;
    panels.show(page, { kind: "runs", runsFolder });
    return;
  }
  const ofFile = page === "workers" || page === "distillation" ? page : null;
  const comparison = ofFile === null ? null : directoryOf(argument);
  if (comparison !== null && isComparison(comparison)) {
    panels.show(page, { kind: "run", runDirectory: comparison });
    return;
  }
  const suitable = ofFile === null ? undefined : ({ directory }: RunSummary) => hasPage(ofFile, directory, existsSync);
  // A run that was started a moment ago is not in the list yet, but this window knows it.
  const live = liveDirectory(argument, services);
  const runDirectory = live ?? (await pickRun(argument, services, suitable))?.directory;
  if (runDirectory === undefined) {
    if (argument !== undefined) void vscode.window.showErrorMessage(vscode.l10n.t("That run is no longer there"));
    return;
  }
  panels.show(page, { kind: "run", runDirectory });
}

function liveDirectory(argument: unknown, { runs }: Services): string | undefined {
  if (typeof argument !== "object" || argument === null || !("runDirectory" in argument)) return undefined;
  const { runDirectory } = argument;
  return typeof runDirectory === "string" && runs.get(runDirectory) ? runDirectory : undefined;
}
