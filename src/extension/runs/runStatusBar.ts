import * as vscode from "vscode";
import { progressLine } from "./runMessages";
import type { RunTracker } from "./runTracker";

/** One status-bar item while a run works; a click leads to the Overview. Also keeps the context key for Cancel Run. */
export function showRunsInStatusBar(runs: RunTracker): vscode.Disposable {
  const item = vscode.window.createStatusBarItem("reroute.run", vscode.StatusBarAlignment.Left);
  item.name = "Reroute";
  item.command = "reroute.overview.focus";
  let active = false;
  runs.onChange(() => {
    const unfinished = runs.unfinished();
    const first = unfinished[0];
    if (active !== (first !== undefined)) {
      active = !active;
      void vscode.commands.executeCommand("setContext", "reroute.runActive", active);
    }
    if (!first) {
      item.hide();
      return;
    }
    item.text = `$(sync~spin) ${progressLine(first, vscode.l10n.t)}`;
    item.tooltip = [first.name, ...unfinished.slice(1).map(({ name }) => vscode.l10n.t("waiting: {0}", name))].join(
      "\n",
    );
    item.show();
  });
  return new vscode.Disposable(() => item.dispose());
}
