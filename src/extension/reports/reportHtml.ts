import type { Translate } from "../../protocol/translate";
import { editorWords } from "../editorWords";

/** The report's colours, by the names that its style sheet gives them, as the editor's theme has them. */
const themed: Record<string, string> = {
  text: "editor-foreground",
  muted: "descriptionForeground",
  page: "editor-background",
  panel: "sideBar-background",
  line: "widget-border",
  good: "testing-iconPassed",
  bad: "errorForeground",
  first: "charts-blue",
  second: "charts-orange",
};

/** What any report may do, whoever wrote the file: show itself in its own styles. A report's own policy can only forbid more. */
const policy = `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'">`;

/**
 * A report as a page of the editor: the same file, in the editor's colours where the theme has them and with its words for options of
 * the command line, under a policy that stands before anything else of it.
 */
export function reportHtml(report: string, t: Translate): string {
  const colours = Object.entries(themed)
    .map(([name, colour]) => `--${name}:var(--vscode-${colour},var(--own-${name}))`)
    .join(";");
  // What the theme lacks stays the report's own: its variables are kept under another name by the root.
  const own = Object.keys(themed)
    .map((name) => `--own-${name}:var(--${name})`)
    .join(";");
  const style = `<style>html{${own}}body{${colours};padding:0;font-family:var(--vscode-font-family)}</style>`;
  const [doctype = ""] = /^\s*<!doctype[^>]*>/i.exec(report) ?? [];
  return doctype + policy + inEditorWords(report.slice(doctype.length), t).replace("</head>", `${style}</head>`);
}

/** Sentences alone: code, styles and tags stay as they are. */
function inEditorWords(html: string, t: Translate): string {
  return html.replace(/<(style|script|code|pre)\b[\s\S]*?<\/\1>|<[^>]*>|[^<]+/gi, (part) =>
    part.startsWith("<") ? part : editorWords(part, t),
  );
}

/** A report is some hundred kilobytes; what is far larger was not written by us. */
export const maxReportBytes = 64 * 2 ** 20;
