import path from "node:path";
import { comparisonFiles, type ComparisonCell, type ComparisonFile } from "../../protocol/compare";
import { verdictWords } from "../../protocol/verdict";
import { distillationFiles, type DistillationFile } from "../../protocol/distillation";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { readDistillation } from "../run/folder/distillationFile";
import { readComparison } from "../run/compare/comparisonFolder";
import { comparisonCsv } from "./comparisonCsv";
import { distillationCsv, distillationTables } from "./distillationTables";
import { distillationFigures } from "./html";
import { markdownTable } from "./markdown";
import { scatterChartSvg } from "./scatterChart";
import { escapeHtml, escapeMarkdown, formatEstimate } from "./format";
import { formatBytes, formatCount, formatPercent } from "../../protocol/quantities";

/** Writes comparison.csv, comparison.md and comparison.html from a comparison's comparison.json. */
export async function writeComparisonReport(directory: string): Promise<void> {
  const comparison = await readComparison(directory);
  const write = (name: string, text: string): Promise<void> => writeFileAtomically(path.join(directory, name), text);
  await write(comparisonFiles.csv, comparisonCsv(comparison));
  const figures = await readDistillation(directory);
  if (figures) await write(distillationFiles.csv, distillationCsv(figures));
  await write(comparisonFiles.reportMarkdown, comparisonMarkdown(comparison, figures));
  await write(comparisonFiles.report, comparisonHtml(comparison, figures));
}

type Estimate = { mean: number; halfWidth95: number } | null | undefined;

/**
 * The grid as text, head first: a row a cell and one for the teacher. KL and loss in nats a token with half of the 95 %
 * bootstrap interval; size, speed and memory are of the calibrated checkpoint where there is one. "–" where a number
 * does not exist.
 */
export function comparisonRows({ teacher, cells }: ComparisonFile): string[][] {
  const head = [
    ...["Method", "Keep", "Parameters", "Size", "KL before", "KL after", "Loss before", "Loss after"],
    ...["Recovered", "Verdict", "Tokens/s", "Memory"],
  ];
  const costs = (model: ComparisonCell["before"]): [string, string] => [
    optional(model?.tokensPerSecond, formatCount),
    optional(model?.peakMemoryBytes, formatBytes),
  ];
  const rows = cells.map((cell) => {
    const { keep, before, after } = cell;
    const result = after ?? before;
    return [
      nameOf(cell, cells),
      optional(keep, String),
      optional(result?.parametersTotal, formatCount),
      optional(result?.bytes, formatBytes),
      withError(before?.klToTeacher),
      withError(after?.klToTeacher),
      withError(before?.nllPerToken),
      withError(after?.nllPerToken),
      optional(cell.recoveredShare, formatPercent),
      verdictOf(cell),
      ...costs(result),
    ];
  });
  const { parametersTotal, bytes, nllPerToken } = teacher ?? {};
  const none = "–";
  const teacherRow = [
    ...["teacher", none, optional(parametersTotal, formatCount), optional(bytes, formatBytes), none, none],
    ...[withError(nllPerToken), none, none, none, ...costs(teacher)],
  ];
  return [head, ...(teacher ? [teacherRow] : []), ...rows];
}

/** The cell's row; of an arm with several seeds also which. */
function nameOf({ method, pipeline, arm, seed }: ComparisonCell, cells: readonly ComparisonCell[]): string {
  const hasSeeds = arm !== undefined && cells.filter((other) => other.arm === arm).length > 1;
  return method ?? pipeline ?? (hasSeeds ? `${arm}, seed ${seed}` : (arm ?? "–"));
}

function verdictOf({ state, error, verdict, trainedOn }: ComparisonCell): string {
  const words = verdict === null ? "–" : verdictWords(verdict, trainedOn);
  return state === "done" ? words : error ? `failed: ${error.code}` : state;
}

function withError(estimate: Estimate): string {
  return estimate ? formatEstimate(estimate) : "–";
}

function optional(value: number | null | undefined, format: (value: number) => string): string {
  return value === null || value === undefined ? "–" : format(value);
}

const lostTitle = "Merges that lose to their own dominant experts";
const explanation =
  "KL to the teacher and loss in nats a token on the same held-out text, before and after calibration; ± is half of the 95 % bootstrap interval over sequences, or over documents where one spans several, and missing where the text is one document. Recovered is the share of the KL that calibration took back; the verdict is a paired studentised bootstrap of the KL before and after, on at least 20 of them.";

function comparisonMarkdown(comparison: ComparisonFile, figures: DistillationFile | null): string {
  const [head, ...rows] = comparisonRows(comparison);
  const tables = figures ? distillationTables(figures) : [];
  const failures = failed(comparison).map(({ id, error }) => `- ${escapeMarkdown(`${id}: ${error.message}`)}`);
  const lost = lostLines(comparison).map((text) => `- ${escapeMarkdown(text)}`);
  const parts = [
    `# Reroute comparison: ${escapeMarkdown(comparison.name)}`,
    explanation,
    markdownTable(head!, rows),
    ...tables.flatMap((one) => [`## ${one.title}`, markdownTable(one.head, one.rows)]),
    ...(lost.length > 0 ? [`## ${lostTitle}\n\n${lost.join("\n")}`] : []),
    ...(failures.length > 0 ? [`## Failed\n\n${failures.join("\n")}`] : []),
  ];
  return `${parts.join("\n\n")}\n`;
}

/** Merges that lose to their own simplest part, a line each. */
export function lostLines({ cells }: ComparisonFile): string[] {
  return cells.flatMap(({ id, lostToDropping }) => (lostToDropping === undefined ? [] : [`${id}: ${lostToDropping}`]));
}

function failed({ cells }: ComparisonFile): { id: string; error: { code: string; message: string } }[] {
  return cells.flatMap(({ id, error }) => (error ? [{ id, error }] : []));
}

function comparisonHtml(comparison: ComparisonFile, figures: DistillationFile | null): string {
  const title = escapeHtml(`Reroute comparison: ${comparison.name}`);
  const [head, ...rows] = comparisonRows(comparison);
  const row = (cells: string[]): string =>
    `<tr>${cells.map((cell, i) => (i === 0 ? `<th scope="row">${escapeHtml(cell)}</th>` : `<td>${escapeHtml(cell)}</td>`)).join("")}</tr>`;
  const table = `<div class="scroll"><table><thead><tr>${head!.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join("")}</tr></thead><tbody>${rows.map(row).join("")}</tbody></table></div>`;
  const failures = failed(comparison).map(
    ({ id, error }) => `<li>${escapeHtml(`${id}: ${error.message} (${error.code})`)}</li>`,
  );
  const failedList = failures.length > 0 ? `<h2>Failed</h2><ul>${failures.join("")}</ul>` : "";
  const lost = lostLines(comparison).map((text) => `<li>${escapeHtml(text)}</li>`);
  const lostList = lost.length > 0 ? `<h2>${lostTitle}</h2><ul>${lost.join("")}</ul>` : "";
  const recipe = escapeHtml(JSON.stringify(comparison.recipe, null, 2));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${title}</h1>
${table}
${figures ? distillationFigures(figures) : ""}
<p class="muted">${escapeHtml(explanation)}</p>
${lostList}
${failedList}
${charts(comparison)}
<h2>Comparison file</h2>
<pre>${recipe}</pre>
</main>
</body>
</html>
`;
}

/** Size against held-out KL and loss: one dot a checkpoint, named by its cell. */
function charts({ cells, teacher }: ComparisonFile): string {
  const points = (value: (model: NonNullable<ComparisonCell["before"]>) => Estimate) =>
    cells.flatMap(({ id, before, after }) =>
      [
        { style: "s0", model: before },
        { style: "s1", model: after },
      ].flatMap(({ style: series, model }) => {
        const estimate = model && value(model);
        return estimate ? [{ label: id, style: series, x: model.bytes, y: estimate.mean }] : [];
      }),
    );
  const series = [
    { style: "s0", name: "before calibration" },
    ...(cells.some(({ after }) => after) ? [{ style: "s1", name: "after calibration" }] : []),
  ];
  const loss = points(({ nllPerToken }) => nllPerToken);
  const teacherPoint = teacher
    ? [{ label: "teacher", style: "s2", x: teacher.bytes, y: teacher.nllPerToken.mean }]
    : [];
  return (
    scatterChartSvg(
      points(({ klToTeacher }) => klToTeacher),
      { title: "Size against KL to the teacher", yAxis: "KL, nats a token", series, yFromZero: true },
    ) +
    scatterChartSvg([...loss, ...teacherPoint], {
      title: "Size against loss",
      yAxis: "loss, nats a token",
      series: [...series, ...(teacher ? [{ style: "s2", name: "teacher" }] : [])],
    })
  );
}

const style = `
:root{color-scheme:light dark;--text:#1f2328;--muted:#59636e;--page:#fff;--panel:#f6f8fa;--line:#d1d9e0;--first:#0969da;--second:#bc4c00}
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--muted:#9198a1;--page:#0d1117;--panel:#161b22;--line:#3d444d;--first:#58a6ff;--second:#f0883e}}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1400px;margin:0 auto;padding:24px}h1{font-size:24px;overflow-wrap:anywhere}h2{font-size:18px;margin-top:32px}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:4px 7px;text-align:left;white-space:nowrap}
thead th{background:var(--panel)}.muted,.legend,figcaption{color:var(--muted)}figcaption{font-weight:600}figure{margin:16px 0}
.scroll{overflow-x:auto}pre{background:var(--panel);padding:12px;overflow-x:auto}
svg text{fill:var(--muted);font:11px system-ui,sans-serif}svg .grid{stroke:var(--line);stroke-width:.6}
svg .frame{fill:var(--panel)}svg .line{fill:none;stroke-width:1.8}svg .line.s0{stroke:var(--first);fill:none}svg .line.s1{stroke:var(--second);fill:none}svg .line.s2,svg .line.s3{stroke:var(--muted);fill:none}.s3{fill:var(--muted)}.key{margin-right:16px}.key i{display:inline-block;width:14px;height:3px;margin-right:6px;vertical-align:middle}.key i.s0{background:var(--first)}.key i.s1{background:var(--second)}.key i.s2,.key i.s3{background:var(--muted)}
.s0{fill:var(--first)}.s1{fill:var(--second)}.s2{fill:var(--muted)}.legend svg{vertical-align:middle;margin:0 4px 0 12px}
`;
