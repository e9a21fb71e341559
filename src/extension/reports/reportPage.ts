import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import { reached } from "../runs/walkthrough";
import { maxReportBytes, reportHtml } from "./reportHtml";

/** View type of the page; its buttons in the tab's row look at it. */
export const reportViewType = "reroute.report";

interface ShownReport {
  panel: vscode.WebviewPanel;
  file: string;
  name: string;
}

/** Reports by their files, each open at most once. */
const shown = new Map<string, ShownReport>();

/** Shows a report in a tab of the editor, on this machine as on a remote one. */
export async function showReport(file: string, name: string, extensionUri: vscode.Uri): Promise<void> {
  const { size } = await stat(file);
  if (size > maxReportBytes)
    throw new RerouteError("run/invalid", `The report ${file} has ${size} bytes, the limit is ${maxReportBytes}`);
  reached("readVerdict");
  const html = reportHtml(await readFile(file, "utf8"), vscode.l10n.t);
  const known = shown.get(file);
  if (known) {
    known.panel.webview.html = html;
    known.panel.reveal();
    return;
  }
  const panel = vscode.window.createWebviewPanel(reportViewType, titleOf(name), vscode.ViewColumn.Active, {
    enableScripts: false,
    enableFindWidget: true,
    localResourceRoots: [],
  });
  panel.iconPath = vscode.Uri.joinPath(extensionUri, "media", "panels", "calibration.svg");
  panel.webview.html = html;
  shown.set(file, { panel, file, name });
  panel.onDidDispose(() => shown.delete(file));
}

/** The tab of a run's report carries the run's new name; the file says what it was called when it was written. */
export function renameReport(runDirectory: string, name: string): void {
  for (const report of shown.values()) {
    if (path.dirname(report.file) !== runDirectory) continue;
    report.name = name;
    report.panel.title = titleOf(name);
  }
}

const titleOf = (name: string): string => vscode.l10n.t("Report: {0}", name);

/** Shows the report in front in the system's browser, from which it can be printed. */
export async function openReportInBrowser(): Promise<void> {
  const report = shownReport();
  if (report) await vscode.env.openExternal(vscode.Uri.file(report.file));
}

/** The report in front; null where another editor is. */
export function shownReport(): { file: string; name: string } | null {
  return [...shown.values()].find(({ panel }) => panel.active) ?? null;
}
