import { escapeHtml } from "../../engine/report/format";
import type { PageName } from "../../protocol/pageData";

export interface PageShell {
  page: PageName;
  title: string;
  language: string;
  scriptUri: string;
  nonce: string;
  /** Translated sentences by the English ones; empty where the editor speaks English. */
  sentences: Record<string, string>;
}

/**
 * The HTML of every page: no data but translations, one script, one policy. Nothing loads but this page's own nonce-marked script and
 * styles; charts are canvases, and exports travel as messages. `style-src` needs no "unsafe-inline": the UI toolkit
 * (FAST) reads the csp-nonce meta for the style elements it makes.
 */
export function pageShell({ page, title, language, scriptUri, nonce, sentences }: PageShell): string {
  const policy = [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
  const translations =
    Object.keys(sentences).length === 0
      ? ""
      : `\n  <meta name="sentences" content="${escapeHtml(JSON.stringify(sentences))}">`;
  return `<!DOCTYPE html>
<html lang="${escapeHtml(language)}">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy" content="${escapeHtml(policy)}">
  <meta property="csp-nonce" content="${nonce}">
  <meta name="viewport" content="width=device-width, initial-scale=1">${translations}
  <title>${escapeHtml(title)}</title>
</head>
<body data-view="${page}">
  <script nonce="${nonce}" src="${escapeHtml(scriptUri)}"></script>
</body>
</html>`;
}
