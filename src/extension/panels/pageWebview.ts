import { randomBytes } from "node:crypto";
import * as vscode from "vscode";
import type { PageName } from "../../protocol/pageData";
import { pageShell } from "./pageShell";

/** The bundle of the editor's language, sentences without comments for translators. */
function translated(): Record<string, string> {
  const entries = Object.entries(vscode.l10n.bundle ?? {});
  return Object.fromEntries(entries.flatMap(([key, text]) => (typeof text === "string" ? [[key, text]] : [])));
}

/** Puts a page's HTML into a webview, which may load nothing but the built pages. */
export function showPage(webview: vscode.Webview, page: PageName, title: string, extensionUri: vscode.Uri): void {
  const pages = vscode.Uri.joinPath(extensionUri, "dist", "webview");
  webview.options = { enableScripts: true, localResourceRoots: [pages] };
  webview.html = pageShell({
    page,
    title,
    language: vscode.env.language,
    scriptUri: webview.asWebviewUri(vscode.Uri.joinPath(pages, `${page}.js`)).toString(),
    sentences: translated(),
    nonce: randomBytes(16).toString("base64"),
  });
}
