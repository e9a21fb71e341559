import * as vscode from "vscode";
import { progressLine } from "./runMessages";
import type { RunTracker } from "./runTracker";

/**
 * One status-bar item while a run works, and the number of running jobs on the activity bar; a click leads to the Overview, the
 * tooltip cancels. Also keeps the context key for Cancel Run.
 */
export function showRunningRuns(runs: RunTracker, view: Pick<vscode.TreeView<unknown>, "badge">): vscode.Disposable {
  const item = vscode.window.createStatusBarItem("reroute.run", vscode.StatusBarAlignment.Left);
  item.name = "Reroute";
  item.command = "reroute.overview.focus";
  let count = 0;
  runs.onChange(() => {
    const shown = runs.shown();
    const first = shown[0];
    if (count !== shown.length) {
      count = shown.length;
      void vscode.commands.executeCommand("setContext", "reroute.runActive", count > 0);
      const tooltip = vscode.l10n.t("{0} running jobs", count);
      view.badge = count > 0 ? { value: count, tooltip } : undefined;
    }
    if (!first) {
      item.hide();
      return;
    }
    item.text = `$(sync~spin) ${progressLine(first, vscode.l10n.t)}`;
    item.tooltip = tooltipOf(
      first.name,
      shown.slice(1).map(({ name, elsewhere }) => {
        return elsewhere ? vscode.l10n.t("another process: {0}", name) : vscode.l10n.t("waiting: {0}", name);
      }),
    );
    item.show();
  });
  return new vscode.Disposable(() => item.dispose());
}

/** Names are text from files: they are shown as they are, never as markup. */
function tooltipOf(first: string, others: string[]): vscode.MarkdownString {
  const tooltip = new vscode.MarkdownString();
  for (const line of [first, ...others]) tooltip.appendText(`${line}\n\n`);
  tooltip.appendMarkdown(`[${vscode.l10n.t("Cancel Run")}](command:reroute.cancelRun)`);
  tooltip.isTrusted = { enabledCommands: ["reroute.cancelRun"] };
  return tooltip;
}
