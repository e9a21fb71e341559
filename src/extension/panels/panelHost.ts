import * as vscode from "vscode";
import { parsePageState, type PageSource, type PageState } from "../../protocol/pageMessages";
import type { Services } from "../services";
import { panelKinds, viewTypeOf, type PanelPage } from "./pageKinds";
import { PageSession } from "./pageSession";
import { showPage } from "./pageWebview";

/** Opens the editor panels, one per page and source, and brings them back after a reload of the window. */
export class PanelHost {
  private readonly open = new Map<string, vscode.WebviewPanel>();

  constructor(private readonly services: Services) {}

  /** Shows the panel, or reveals the one that shows the same already. */
  show(page: PanelPage, source: PageSource): void {
    const existing = this.open.get(keyOf(page, source));
    if (existing) {
      existing.reveal();
      return;
    }
    const column = vscode.window.activeTextEditor?.viewColumn ?? vscode.ViewColumn.Active;
    const panel = vscode.window.createWebviewPanel(viewTypeOf(page), panelKinds[page].title(), column);
    this.adopt(panel, page, source);
  }

  /** Registers what VS Code calls for panels that were open when the window was closed. */
  registerSerializers(): vscode.Disposable {
    const pages = Object.keys(panelKinds) as PanelPage[];
    return vscode.Disposable.from(
      ...pages.map((page) =>
        vscode.window.registerWebviewPanelSerializer(viewTypeOf(page), {
          deserializeWebviewPanel: async (panel, value) => {
            // A page that was covered before it was drawn has saved no state: it shows what its kind showed last.
            const { workspaceState } = this.services.context;
            const source = parsePageState(value)?.source ?? parsePageState(workspaceState.get(lastOf(page)))?.source;
            if (source && fits(page, source)) this.adopt(panel, page, source);
            else panel.dispose();
          },
        }),
      ),
    );
  }

  private adopt(panel: vscode.WebviewPanel, page: PanelPage, source: PageSource): void {
    const { extensionUri } = this.services.context;
    panel.iconPath = vscode.Uri.joinPath(extensionUri, "media", "panels", panelKinds[page].icon);
    // Several runs' panels of one kind are told apart by their tabs.
    const session = new PageSession(panel.webview, page, source, this.services, (name) => {
      panel.title = `${panelKinds[page].title()}: ${name}`;
    });
    const key = keyOf(page, source);
    this.open.set(key, panel);
    panel.onDidDispose(() => {
      if (this.open.get(key) === panel) this.open.delete(key);
      session.dispose();
    });
    const state: PageState = { version: 1, page, source, view: {} };
    void this.services.context.workspaceState.update(lastOf(page), state);
    showPage(panel.webview, page, panelKinds[page].title(), extensionUri);
  }
}

function fits(page: PanelPage, source: PageSource): boolean {
  return source.kind === (page === "tradeOff" ? "runs" : "run");
}

/** Where the workspace remembers what panels of this kind showed last. */
function lastOf(page: PanelPage): string {
  return `reroute.panels.${page}`;
}

function keyOf(page: PanelPage, source: PageSource): string {
  const folder = source.kind === "run" ? source.runDirectory : source.kind === "runs" ? source.runsFolder : "";
  return `${page} ${folder}`;
}
