import { escapeHtml } from "../../engine/report/format";
import type { Translate } from "../../protocol/translate";
import type { PreflightLine, SummaryTable } from "./preflightLines";

/** What the page's buttons answer. */
export const summaryAnswers = ["start", "force", "edit", "back", "close"] as const;
export type SummaryAnswer = (typeof summaryAnswers)[number];

export interface Summary {
  title: string;
  lines: readonly PreflightLine[];
  stages: SummaryTable | null;
  /** In the order of their buttons; the first is the one that Enter presses. */
  buttons: { answer: SummaryAnswer; label: string; hint?: string }[];
}

const style = `
body { padding: 0 24px 32px; line-height: 1.5; }
main { max-width: 1000px; }
h1 { font-size: 1.4em; font-weight: 600; margin: 20px 0 4px; }
h2 { font-size: 1.1em; font-weight: 600; margin: 24px 0 4px; }
p { margin: 4px 0 12px; color: var(--vscode-descriptionForeground); }
nav { display: flex; flex-wrap: wrap; gap: 8px; margin: 12px 0 4px; }
button { font: inherit; padding: 4px 14px; border-radius: 2px; cursor: pointer;
  border: 1px solid var(--vscode-button-border, transparent);
  color: var(--vscode-button-secondaryForeground); background: var(--vscode-button-secondaryBackground); }
button.first { color: var(--vscode-button-foreground); background: var(--vscode-button-background); }
button:focus-visible { outline: 1px solid var(--vscode-focusBorder); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 4px 16px 4px 0; font-weight: normal;
  border-top: 1px solid var(--vscode-widget-border, var(--vscode-contrastBorder, transparent)); }
th[scope=row] { white-space: nowrap; color: var(--vscode-descriptionForeground); }
th[scope=col] { border-top: 0; color: var(--vscode-descriptionForeground); }
td { overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: isolate; width: 100%; }
td.short { width: auto; white-space: nowrap; }
li { margin: 4px 0; padding-left: 10px; overflow-wrap: anywhere; unicode-bidi: isolate; list-style: none;
  border-left: 3px solid var(--vscode-editorWarning-foreground, var(--vscode-contrastBorder)); }
li.refusal { border-color: var(--vscode-errorForeground); }
ul { padding: 0; margin: 12px 0; }
`;

/** Presses travel as messages; what Enter means has the focus, also when the tab gets it later. */
const script = `
const host = acquireVsCodeApi();
const buttons = [...document.querySelectorAll("button")];
for (const button of buttons) button.addEventListener("click", () => host.postMessage(button.dataset.answer));
const focusFirst = () => { if (document.activeElement === document.body) buttons[0].focus(); };
window.addEventListener("focus", focusFirst);
focusFirst();
`;

/** What a run or comparison will take, as a page: nothing of it is cut, and it says before anything starts what was chosen. */
export function summaryHtml({ title, lines, stages, buttons }: Summary, language: string, nonce: string, t: Translate) {
  const policy = `default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'; base-uri 'none'; form-action 'none'`;
  const problems = lines.filter(({ kind }) => kind !== "fact");
  const facts = lines.filter(({ kind }) => kind === "fact");
  return `<!DOCTYPE html>
<html lang="${escapeHtml(language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style nonce="${nonce}">${style}</style>
</head>
<body data-view="summary" data-state="ready">
<main>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(t("Nothing has been started or written yet"))}</p>
<nav aria-label="${escapeHtml(t("Answers"))}">${buttons.map(buttonHtml).join("")}</nav>
${problems.length === 0 ? "" : `<ul>${problems.map(problemHtml).join("")}</ul>`}
<table><tbody>${facts.map(factHtml).join("")}</tbody></table>
${stages ? `<h2>${escapeHtml(t("Stages"))}</h2>${tableHtml(stages)}` : ""}
</main>
<script nonce="${nonce}">${script}</script>
</body>
</html>`;
}

function buttonHtml({ answer, label, hint }: Summary["buttons"][number], index: number): string {
  const title = hint === undefined ? "" : ` title="${escapeHtml(hint)}"`;
  return `<button data-answer="${answer}"${title}${index === 0 ? ' class="first"' : ""}>${escapeHtml(label)}</button>`;
}

function problemHtml({ kind, label, description }: PreflightLine): string {
  return `<li class="${kind}"><strong>${escapeHtml(label)}:</strong> ${escapeHtml(description)}</li>`;
}

function factHtml({ label, description }: PreflightLine): string {
  return `<tr><th scope="row">${escapeHtml(label)}</th><td>${escapeHtml(description)}</td></tr>`;
}

function tableHtml({ columns, rows }: SummaryTable): string {
  const last = columns.length - 1;
  const head = columns.map((column) => `<th scope="col">${escapeHtml(column)}</th>`).join("");
  const cell = (text: string, i: number) => `<td${i < last ? ' class="short"' : ""}>${escapeHtml(text)}</td>`;
  return `<table><thead><tr>${head}</tr></thead><tbody>${rows.map((row) => `<tr>${row.map(cell).join("")}</tr>`).join("")}</tbody></table>`;
}
