import * as vscode from "vscode";
import { PageSession } from "../panels/pageSession";
import { showPage } from "../panels/pageWebview";
import type { Services } from "../services";
import { planModel } from "./planDocument";

/** The page of a compression-plan.json. Its document is a text document: undo, saving and hot exit are VS Code's own. */
export class PlanEditor implements vscode.CustomTextEditorProvider {
  constructor(private readonly services: Services) {}

  resolveCustomTextEditor(document: vscode.TextDocument, panel: vscode.WebviewPanel): void {
    const { uri } = document;
    const run = planModel(uri, this.services).runDirectory ?? null;
    const session = new PageSession(
      panel.webview,
      "plan",
      { kind: "file", uri: uri.toString() },
      this.services,
      undefined,
      run,
    );
    const changes = vscode.workspace.onDidChangeTextDocument(({ document: changed }) => {
      if (changed.uri.toString() === uri.toString()) session.reload();
    });
    panel.onDidDispose(() => {
      changes.dispose();
      session.dispose();
    });
    showPage(panel.webview, "plan", vscode.l10n.t("Compression plan"), this.services.context.extensionUri);
  }
}
