import * as vscode from "vscode";
import { errorCodeOf, isCancelled } from "../protocol/errors";
import { editorWords } from "./editorWords";
import { failureActions, type Failed, type FailureAction } from "./failureActions";

/** The run or comparison that a failure ended, for the buttons that go on with it. */
export interface FailedRun {
  kind: NonNullable<Failed>;
  runDirectory: string;
  /** Of what was refused before it had a folder, and of comparisons: the recipe is opened, or started again with its result elsewhere. */
  refused?: { editRecipe: () => Promise<void>; startIn?: (folder: string) => Promise<void> };
}

/**
 * Tells the user about a failure: nothing for a cancellation, else the message, its code, and buttons that do something about
 * it. The log has all of it.
 */
export function showFailure(error: unknown, log: vscode.LogOutputChannel, run: FailedRun | null = null): void {
  if (isCancelled(error)) return;
  const code = errorCodeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  log.error(error instanceof Error ? (error.stack ?? message) : message);
  // The last output of a crashed engine has many lines; the log has them all.
  const firstLine = editorWords(message.split("\n")[0]!, vscode.l10n.t);
  const shown = code === "internal" ? firstLine : `${firstLine} (${code})`;
  const actions = failureActions(code, message, run?.kind ?? null);
  const labels = actions.map(labelOf);
  void vscode.window.showErrorMessage(shown, ...labels).then(async (choice) => {
    const action = choice === undefined ? undefined : actions[labels.indexOf(choice)];
    if (action) await act(action, log, run).catch((failed: unknown) => log.error(String(failed)));
  });
}

function labelOf(action: FailureAction): string {
  switch (action.kind) {
    case "log":
      return vscode.l10n.t("Show Engine Log");
    case "documentation":
      return vscode.l10n.t("Show Documentation");
    case "setting":
      return vscode.l10n.t("Open Setting");
    case "line":
      return vscode.l10n.t("Open Line {0}", action.line);
    case "editRecipe":
      return vscode.l10n.t("Edit Recipe");
    case "chooseFolder":
      return vscode.l10n.t("Choose Folder...");
    case "resume":
      return vscode.l10n.t("Resume");
    case "cancelOther":
      return vscode.l10n.t("Cancel It There");
  }
}

async function act(action: FailureAction, log: vscode.LogOutputChannel, run: FailedRun | null): Promise<void> {
  const ofRun = run && { runDirectory: run.runDirectory };
  switch (action.kind) {
    case "log":
      log.show();
      return;
    case "documentation":
      return showDocumentation(action.document);
    case "setting":
      await vscode.commands.executeCommand("workbench.action.openSettings", action.setting);
      return;
    case "line": {
      const at = new vscode.Position(action.line - 1, 0);
      await vscode.window.showTextDocument(vscode.Uri.file(action.file), { selection: new vscode.Range(at, at) });
      return;
    }
    case "editRecipe":
      if (run?.refused) await run.refused.editRecipe();
      else await vscode.commands.executeCommand("reroute.duplicateRun", ofRun);
      return;
    case "chooseFolder": {
      const openLabel = vscode.l10n.t("Put the Result Here");
      const options = { canSelectFiles: false, canSelectFolders: true, openLabel };
      const [folder] = (await vscode.window.showOpenDialog(options)) ?? [];
      if (folder && run?.refused?.startIn) await run.refused.startIn(folder.fsPath);
      else if (folder) await vscode.commands.executeCommand("reroute.runAgain", { ...ofRun, into: folder.fsPath });
      return;
    }
    case "resume":
      await vscode.commands.executeCommand("reroute.resumeRun", ofRun);
      return;
    case "cancelOther":
      await vscode.commands.executeCommand("reroute.cancelRun", ofRun);
      return;
  }
}

let documentation: vscode.Uri | null = null;

/** Where the shipped documents are; told once, at activation. */
export function setDocumentationFolder(folder: vscode.Uri): void {
  documentation = folder;
}

/** Shows a page of the documentation that ships with the extension. */
export async function showDocumentation(document: string): Promise<void> {
  if (documentation)
    await vscode.commands.executeCommand("markdown.showPreview", vscode.Uri.joinPath(documentation, document));
}
