import type { DistillationFile } from "../../protocol/distillation";
import type { DivergenceData } from "../../protocol/panels";
import { heatmapSvg, heatmapStyle, lineChartSvg } from "./charts";
import { denseTable } from "./denseTable";
import { distillationTables } from "./distillationTables";
import { numberDefinitions } from "./definitions";
import { escapeHtml, formatOptional, intervalNote } from "./format";
import { formatCount, formatNumber, formatPercent } from "../../protocol/quantities";
import { previewNote } from "./previewNote";
import type { ReportData } from "./reportData";
import { tradeOffCharts } from "./tradeOff";
import { stageColumns, stageName, stageRows } from "./stageTable";

/** The report as one HTML file: no scripts, nothing loaded from elsewhere, light and dark. */
export function renderHtml(data: ReportData): string {
  const title = `Reroute: ${data.run.name}`;
  const sections = [
    summary(data),
    tradeOff(data),
    stages(data),
    routing(data),
    divergence(data),
    dense(data),
    calibration(data),
    distillation(data),
    plan(data),
    provenance(data),
    definitions(),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}${heatmapStyle}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
${sections.filter((section) => section !== "").join("\n")}
</main>
</body>
</html>
`;
}

type LayerRow = DivergenceData["byLayer"][number];

function summary({ evaluation, table, verdict }: ReportData): string {
  const comparison = evaluation?.comparison;
  const kind = comparison && !comparison.trainedOn ? comparison.verdict.replaceAll(" ", "-") : "none";
  const scope = evaluation
    ? `<p class="muted">${escapeHtml(`Measured on ${evaluation.data.sequences} held-out sequences of ${evaluation.data.sequenceLength} tokens from ${evaluation.data.path} (SHA-256 ${evaluation.data.sha256.slice(0, 12)}). ${intervalNote(evaluation)}`)}</p>`
    : "";
  return `<section><p class="verdict ${kind}">${escapeHtml(verdict)}</p>${table ? comparisonHtml(table) : ""}${scope}</section>`;
}

function comparisonHtml({ columns, rows }: NonNullable<ReportData["table"]>): string {
  return htmlTable(
    ["", ...columns],
    rows.map(({ label, unit, cells }) => [unit === "" ? label : `${label} (${unit})`, ...cells]),
  );
}

function tradeOff({ evaluation }: ReportData): string {
  const charts = evaluation ? tradeOffCharts(evaluation) : "";
  return charts === "" ? "" : section("Trade-off", charts);
}

function stages({ run }: ReportData): string {
  return section("Stages", htmlTable(stageColumns, stageRows(run)));
}

function routing({ routing: data }: ReportData): string {
  if (!data) return "";
  const all = data.byDomain[""]!;
  const map = heatmapSvg(all.utilisation, {
    title: "Utilisation of the teacher's experts",
    rowNames: data.layers.map(String),
    columnAxis: "expert",
    rowAxis: "layer",
    legend: "of the layer's routed slots",
  });
  const rows = all.layers.map((layer) => [
    String(layer.layer),
    formatNumber(layer.coefficientOfVariation),
    formatNumber(layer.normalisedEntropy),
    String(layer.neverUsed),
    formatOptional(layer.selectedMass, formatPercent),
    formatOptional(layer.topKMargin, formatNumber),
    formatOptional(layer.tokenEntropy, formatNumber),
  ]);
  const head = [
    "Layer",
    "Coefficient of variation",
    "Normalised entropy",
    "Never used",
    "Selected mass",
    "Top-k margin (logits)",
    "Token entropy (nats)",
  ];
  const unused = data.neverUsed.length;
  const note = `${formatCount(data.tokens)} tokens profiled, ${data.numExpertsPerToken} experts a token. ${unused === 0 ? "Every expert was used." : `${unused} experts were never used.`}`;
  const mark = data.preview ? `<p><strong>${escapeHtml(previewNote(data.preview))}</strong></p>` : "";
  return section(
    "Routing of the teacher",
    `${mark}<p>${escapeHtml(note)}</p>${map}${details("Numbers by layer", htmlTable(head, rows))}`,
  );
}

function divergence({ divergence: data }: ReportData): string {
  if (!data) return "";
  const sides = [
    { name: "before calibration", style: "s0", side: data.before },
    { name: "after calibration", style: "s1", side: data.after },
  ].flatMap(({ name, style, side }) => (side ? [{ name, style, side }] : []));
  const chart = (title: string, yAxis: string, value: (row: LayerRow) => number): string =>
    lineChartSvg(
      sides.map(({ name, style, side }) => ({
        name,
        style,
        marks: true,
        points: side.byLayer.map((row) => ({ x: row.layer, y: value(row) })),
      })),
      { title, xAxis: "layer", yAxis, yFromZero: true },
    );
  // One scale for both maps, so that equal colours are equal numbers.
  const highest = sides.flatMap(({ side }) => side.kl.values).reduce<number>((most, v) => Math.max(most, v ?? 0), 0);
  const maps = sides.map(({ name, side }) =>
    heatmapSvg(side.kl, {
      highest,
      title: `Routing KL by teacher expert, ${name}`,
      rowNames: data.layers.map(String),
      columnAxis: "teacher expert (empty: dropped)",
      rowAxis: "layer",
      legend: "nats a token (negative contributions as 0)",
    }),
  );
  const rows = data.layers.map((layer, i) => [
    String(layer),
    ...sides.flatMap(({ side }) => {
      const row = side.byLayer[i];
      return row
        ? [formatNumber(row.routingKl), formatNumber(row.l1), formatPercent(row.topKOverlap)]
        : ["–", "–", "–"];
    }),
  ]);
  const head = ["Layer", ...sides.flatMap(({ name }) => [`Routing KL ${name}`, `L1 ${name}`, `Top-k overlap ${name}`])];
  return section(
    "Divergence of the routing",
    `<p>${escapeHtml(data.mapping.description)}.</p>` +
      chart("Routing KL by layer", "nats a token", ({ routingKl }) => routingKl) +
      chart("Top-k overlap by layer", "share of the teacher's experts", ({ topKOverlap }) => topKOverlap) +
      maps.join("") +
      details("Numbers by layer", htmlTable(head, rows)),
  );
}

function calibration({ calibration: data }: ReportData): string {
  if (!data) return "";
  const chart = lineChartSvg(
    [
      {
        name: "training loss of each update",
        style: "s0",
        points: data.updates.map(({ step, loss }) => ({ x: step, y: loss })),
      },
      {
        name: "held-out KL",
        style: "s1",
        marks: true,
        points: data.heldOut.map(({ step, kl }) => ({ x: step, y: kl })),
      },
    ].filter(({ points }) => points.length > 0),
    { title: "Router KD", xAxis: "optimiser update", yAxis: "nats a token" },
  );
  const rows = data.heldOut.map(({ step, kl, nll }) => [
    String(step),
    kl.toFixed(5),
    nll.toFixed(5),
    step === data.bestStep ? "best" : "",
  ]);
  const best =
    data.bestStep === null
      ? ""
      : `<p>Best held-out evaluation at update ${data.bestStep} of ${data.updates.length}.</p>`;
  const heldOut =
    rows.length > 0
      ? details("Held-out numbers", htmlTable(["Update", "KL (nats a token)", "Loss (nats a token)", ""], rows))
      : "";
  return section("Calibration", best + chart + heldOut);
}

function dense({ dense: file }: ReportData): string {
  if (!file) return "";
  const { title, about, head, rows } = denseTable(file);
  return section(title, `<p>${escapeHtml(about)}</p>${htmlTable(head, rows)}`);
}

function distillation({ distillation: file }: ReportData): string {
  return file ? section("Distillation", distillationFigures(file)) : "";
}

/** The figures of a distillation.json, each with its numbers. */
export function distillationFigures(file: DistillationFile): string {
  const figures = distillationTables(file).map(({ title, head, rows, series, xAxis, yAxis }) => {
    // First and last evaluation, where there are many.
    const shown = series.length > 4 ? [series[0]!, series.at(-1)!] : series;
    const lines = shown.map(({ name, points }, i) => ({ name, style: `s${i}`, marks: true, points }));
    const isLine = series.some(({ points }) => points.length > 1);
    const chart = isLine
      ? lineChartSvg(lines, { title, xAxis, yAxis, yFromZero: true })
      : `<h3>${escapeHtml(title)}</h3>`;
    const table = htmlTable(head, rows);
    return chart + (isLine ? details(`${title}: numbers`, table) : table);
  });
  return figures.join("");
}

function plan({ plan: made }: ReportData): string {
  if (!made) return "";
  const notes = (made.notes ?? []).map((note) => `<li>${escapeHtml(note)}</li>`).join("");
  const kept =
    made.paradigm === "pruning"
      ? htmlTable(
          ["Layer", "Kept experts"],
          Object.entries(made.layers).map(([layer, { kept: ids, scores }]) => [
            layer,
            `${ids.length}${scores ? ` of ${scores.length}` : ""}: ${ids.join(", ")}`,
          ]),
        )
      : "";
  return section(
    `Compression plan: ${made.paradigm} by ${made.method}`,
    `${notes === "" ? "" : `<ul>${notes}</ul>`}${details("Plan by layer", kept)}`,
  );
}

function provenance({ run, evaluation }: ReportData): string {
  const rows: [string, string][] = [
    ["Run", `${run.id}, created ${run.createdAt}`],
    ["Base folder", run.baseFolder],
    ...(run.runtime ? [["execution provider", run.runtime.provider] as [string, string]] : []),
    ...Object.entries(run.versions).map(([name, version]): [string, string] => [name, version]),
    ...(evaluation
      ? [["Evaluation text", `${evaluation.data.path}, SHA-256 ${evaluation.data.sha256}`] as [string, string]]
      : []),
    ...run.stages.flatMap(({ id, step, inputHash }): [string, string][] =>
      inputHash === null ? [] : [[`Inputs of ${stageName({ id, step }, run.recipe)}`, inputHash]],
    ),
  ];
  const recipe = `<pre>${escapeHtml(JSON.stringify(run.recipe, null, 2))}</pre>`;
  return section("Provenance", htmlTable(["", ""], rows) + details("Recipe", recipe));
}

function definitions(): string {
  const rows = numberDefinitions.map(({ name, unit, meaning, source }) => [name, unit, meaning, source]);
  return section("What the numbers mean", htmlTable(["Number", "Unit", "Definition", "File"], rows));
}

function section(title: string, body: string): string {
  return `<section><h2>${escapeHtml(title)}</h2>${body}</section>`;
}

function details(title: string, body: string): string {
  return body === "" ? "" : `<details><summary>${escapeHtml(title)}</summary>${body}</details>`;
}

function htmlTable(head: string[], rows: string[][]): string {
  const hasHead = head.some((cell) => cell !== "");
  const cells = (row: string[]): string =>
    row
      .map((cell, i) => (i === 0 ? `<th scope="row">${escapeHtml(cell)}</th>` : `<td>${escapeHtml(cell)}</td>`))
      .join("");
  const headRow = hasHead
    ? `<thead><tr>${head.map((cell) => `<th scope="col">${escapeHtml(cell)}</th>`).join("")}</tr></thead>`
    : "";
  return `<div class="scroll"><table>${headRow}<tbody>${rows.map((row) => `<tr>${cells(row)}</tr>`).join("")}</tbody></table></div>`;
}

const style = `
:root{color-scheme:light dark;--text:#1f2328;--muted:#59636e;--page:#fff;--panel:#f6f8fa;--line:#d1d9e0;--good:#1a7f37;--bad:#cf222e;--first:#0969da;--second:#bc4c00}
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--muted:#9198a1;--page:#0d1117;--panel:#161b22;--line:#3d444d;--good:#3fb950;--bad:#f85149;--first:#58a6ff;--second:#f0883e}}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px}
h1{font-size:24px;overflow-wrap:anywhere}h2{font-size:18px;margin-top:32px;border-bottom:1px solid var(--line);padding-bottom:4px}
table{border-collapse:collapse;margin:8px 0}th,td{border:1px solid var(--line);padding:4px 10px;text-align:left;vertical-align:top;overflow-wrap:anywhere}
thead th{background:var(--panel)}th[scope=row]{font-weight:500}
.verdict{font-size:17px;font-weight:600;padding:10px 14px;background:var(--panel);border-left:5px solid var(--muted)}
.verdict.recovered{border-color:var(--good)}.verdict.worse{border-color:var(--bad)}
.muted,.legend,figcaption{color:var(--muted)}figcaption{font-weight:600;margin-bottom:4px}figure{margin:16px 0}
.scroll{overflow-x:auto}pre{background:var(--panel);padding:12px;overflow-x:auto}summary{cursor:pointer;margin:8px 0}
svg text{fill:var(--muted);font:11px system-ui,sans-serif}svg .frame{fill:var(--panel);stroke:var(--line)}svg .grid{stroke:var(--line);stroke-width:.6}
svg .line{fill:none;stroke-width:1.8}svg .line.s0{stroke:var(--first)}svg .line.s1{stroke:var(--second)}svg circle.s0{fill:var(--first)}svg circle.s1{fill:var(--second)}
.legend{font-size:12px}.key{margin-right:16px}.key i{display:inline-block;width:14px;height:3px;margin-right:6px;vertical-align:middle}.key i.s0{background:var(--first)}.key i.s1{background:var(--second)}
.scale{display:inline-block;width:160px;height:10px;vertical-align:middle}
`;
