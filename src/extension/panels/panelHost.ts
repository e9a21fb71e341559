import * as vscode from "vscode";
import { parsePageState, type PageSource, type PageState } from "../../protocol/pageMessages";
import type { Services } from "../services";
import { panelKinds, viewTypeOf, type PanelPage } from "./pageKinds";
import { PageSession } from "./pageSession";
import { showPage } from "./pageWebview";

/** Opens the editor panels, one per page and source, and brings them back after a reload of the window. */
export class PanelHost {
  private readonly open = new Map<string, { panel: vscode.WebviewPanel; session: PageSession }>();

  constructor(private readonly services: Services) {}

  /** Shows the panel, or reveals the one that shows the same already. */
  show(page: PanelPage, source: PageSource): void {
    const existing = this.open.get(keyOf(page, source));
    if (existing) {
      // The same run with others beside it.
      if (keysOf(existing.session.source) !== keysOf(source)) existing.session.showOther(source);
      existing.panel.reveal();
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
    let key = keyOf(page, source);
    const session = new PageSession(panel.webview, page, source, this.services, (name, shown) => {
      panel.title = `${panelKinds[page].title()}: ${name}`;
      const next = keyOf(page, shown);
      if (next !== key && this.open.get(key)?.panel === panel) this.open.delete(key);
      key = next;
      this.open.set(key, { panel, session });
      const state: PageState = { version: 1, page, source: shown, view: {} };
      void this.services.context.workspaceState.update(lastOf(page), state);
    });
    this.open.set(key, { panel, session });
    panel.onDidDispose(() => {
      if (this.open.get(key)?.panel === panel) this.open.delete(key);
      session.dispose();
    });
    const state: PageState = { version: 1, page, source, view: {} };
    void this.services.context.workspaceState.update(lastOf(page), state);
    showPage(panel.webview, page, panelKinds[page].title(), extensionUri);
  }
}

function fits(page: PanelPage, source: PageSource): boolean {
  if (page === "playground") return source.kind === "checkpoints";
  return source.kind === (page === "tradeOff" ? "runs" : "run");
}

/** Where the workspace remembers what panels of this kind showed last. */
function lastOf(page: PanelPage): string {
  return `reroute.panels.${page}`;
}

/** Panels are told apart by what they show; what is compared with it may change in the same one. */
function keyOf(page: PanelPage, source: PageSource): string {
  if (source.kind === "runs") return `${page} ${[source.runsFolder, ...(source.only ?? [])].join("\n")}`;
  if (source.kind === "checkpoints") return `${page} ${source.checkpoints.map(({ folder }) => folder).join("\n")}`;
  return `${page} ${source.kind === "run" ? source.runDirectory : ""}`;
}

function keysOf(source: PageSource): string {
  return source.kind === "run" ? (source.compareWith ?? []).join("\n") : "";
}
