import * as vscode from "vscode";
import { PageSession } from "../panels/pageSession";
import { showPage } from "../panels/pageWebview";
import type { Services } from "../services";
import { overviewOf } from "./overviewOf";

/** Milliseconds between two updates: often enough to look live, seldom enough to read. */
const updateEveryMs = 300;

/** The Overview in the side panel: replaced as a whole at every change, since it is small. */
export class OverviewView implements vscode.WebviewViewProvider {
  private session: PageSession | null = null;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly services: Services) {
    const changed = () => this.updateSoon();
    services.engine.onStateChange(changed);
    services.runs.onChange(changed);
    services.runList.onDidChange(changed);
    vscode.workspace.onDidGrantWorkspaceTrust(changed);
  }

  resolveWebviewView(view: vscode.WebviewView): void {
    const session = new PageSession(view.webview, "overview", { kind: "workspace" }, this.services);
    this.session = session;
    view.onDidDispose(() => {
      session.dispose();
      if (this.session === session) this.session = null;
    });
    showPage(view.webview, "overview", vscode.l10n.t("Overview"), this.services.context.extensionUri);
  }

  private updateSoon(): void {
    if (this.timer || !this.session?.isReady()) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      void overviewOf(this.services).then((data) => this.session?.post({ type: "update", page: "overview", data }));
    }, updateEveryMs);
  }
}
