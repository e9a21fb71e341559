import * as vscode from "vscode";
import { PageSession } from "../panels/pageSession";
import { showPage } from "../panels/pageWebview";
import type { Services } from "../services";

/** The read-only table of a .safetensors or .gguf file: names, shapes, dtypes, bytes; statistics of a tensor when asked for. */
export class SafetensorsEditor implements vscode.CustomReadonlyEditorProvider {
  static readonly viewType = "reroute.safetensors";

  constructor(private readonly services: Services) {}

  openCustomDocument(uri: vscode.Uri): vscode.CustomDocument {
    return { uri, dispose: () => undefined };
  }

  resolveCustomEditor(document: vscode.CustomDocument, panel: vscode.WebviewPanel): void {
    const source = { kind: "file", uri: document.uri.toString() } as const;
    const session = new PageSession(panel.webview, "tensors", source, this.services);
    const watcher = vscode.workspace.createFileSystemWatcher(
      new vscode.RelativePattern(vscode.Uri.joinPath(document.uri, ".."), "*.{safetensors,gguf}"),
    );
    watcher.onDidChange((changed) => {
      if (changed.toString() === document.uri.toString()) session.reload();
    });
    panel.onDidDispose(() => {
      watcher.dispose();
      session.dispose();
    });
    showPage(panel.webview, "tensors", vscode.l10n.t("Tensors"), this.services.context.extensionUri);
  }
}
