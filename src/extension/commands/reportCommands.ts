import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import { comparisonFiles } from "../../protocol/compare";
import type { RunSummary } from "../../protocol/panels";
import { runFiles } from "../../protocol/run";
import { saveWithDialog } from "../exports/saveWithDialog";
import { shownReport, showReport } from "../reports/reportPage";
import { isComparison } from "../runs/comparisonFolders";
import type { Services } from "../services";
import { directoryOf, pickRun } from "./pickRun";

/** Opens the report of a run or comparison as a page of the editor, on this machine as on a remote one. */
export async function openReport(argument: unknown, services: Services): Promise<void> {
  const report = await pickReport(argument, services);
  if (report) await showReport(report.file, report.name, services.context.extensionUri);
}

/**
 * Saves a report as one file, to hand on: it needs nothing else. That of the run or comparison that a tree names; of the page in front;
 * or of a run that is chosen. A remote window may save it on the machine in front as well.
 */
export async function saveReport(argument: unknown, services: Services): Promise<void> {
  const report = (directoryOf(argument) === null ? shownReport() : null) ?? (await pickReport(argument, services));
  if (!report) return;
  const saved = await saveWithDialog(report.name, "html", await readFile(report.file), report.file);
  if (saved) vscode.window.setStatusBarMessage(vscode.l10n.t("Saved the report of {0}", report.name), 5000);
}

async function pickReport(argument: unknown, services: Services): Promise<{ file: string; name: string } | null> {
  const named = directoryOf(argument);
  if (named !== null && isComparison(named)) return reportOf(named, path.basename(named), comparisonFiles.report);
  const hasReport = ({ directory }: RunSummary) => existsSync(path.join(directory, runFiles.report));
  const run = await pickRun(argument, services, hasReport);
  return run && reportOf(run.directory, run.name, runFiles.report);
}

function reportOf(directory: string, name: string, report: string): { file: string; name: string } | null {
  const file = path.join(directory, report);
  if (existsSync(file)) return { file, name };
  void vscode.window.showInformationMessage(
    vscode.l10n.t("{0} has no report yet: it is written when the run ends", name),
  );
  return null;
}
