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

/**
 * A report as a page of the editor: the same file, in the editor's colours where the theme has them. The file has no script, and its
 * policy forbids everything but its own styles.
 */
export function reportHtml(report: string): string {
  const colours = Object.entries(themed)
    .map(([name, colour]) => `--${name}:var(--vscode-${colour},var(--own-${name}))`)
    .join(";");
  // What the theme lacks stays the report's own: its variables are kept under another name by the root.
  const own = Object.keys(themed)
    .map((name) => `--own-${name}:var(--${name})`)
    .join(";");
  const style = `<style>html{${own}}body{${colours};padding:0;font-family:var(--vscode-font-family)}</style>`;
  return report.replace("</head>", `${style}</head>`);
}

/** A report is some hundred kilobytes; what is far larger was not written by us. */
export const maxReportBytes = 64 * 2 ** 20;
