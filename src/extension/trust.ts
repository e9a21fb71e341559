import * as vscode from "vscode";

/** Commands that run or write something. Their menus are disabled in Restricted Mode; pages and key bindings are not. */
const needsTrust: ReadonlySet<string> = new Set([
  "calibrateRouter",
  "compressExperts",
  "distil",
  "compressWithPlan",
  "profileRouting",
  "evaluateCheckpoint",
  "compareCheckpoints",
  "compareMethods",
  "importTrace",
  "exportGguf",
  "newRecipe",
  "runRecipe",
  "checkRecipe",
  "resumeRun",
  "exportData",
  "renameRun",
  "tagRun",
  "deleteRun",
  "duplicateRun",
  "runAgain",
  "saveReport",
  "copyStartCommand",
  "setQueuePassword",
  "refreshWorkers",
  "openSampleCheckpoint",
  "openPlayground",
]);

/** True, with the reason shown, when the command must not run here. */
export async function refusedInRestrictedMode(command: string): Promise<boolean> {
  if (vscode.workspace.isTrusted || !needsTrust.has(command)) return false;
  const manage = vscode.l10n.t("Manage Workspace Trust");
  const choice = await vscode.window.showWarningMessage(
    vscode.l10n.t("Nothing is run or written in Restricted Mode: trust this workspace first"),
    manage,
  );
  if (choice === manage) await vscode.commands.executeCommand("workbench.trust.manage");
  return true;
}

/** Says above a tree, until the workspace is trusted, why its actions are disabled. */
export function tellRestrictedMode(view: Pick<vscode.TreeView<unknown>, "message">): void {
  if (vscode.workspace.isTrusted) return;
  view.message = vscode.l10n.t("Restricted Mode: checkpoints can be inspected, nothing is run or written.");
  vscode.workspace.onDidGrantWorkspaceTrust(() => {
    view.message = "";
  });
}
