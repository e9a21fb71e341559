import { denseTable } from "./denseTable";
import { distillationTables } from "./distillationTables";
import { numberDefinitions } from "./definitions";
import { escapeMarkdown, formatOptional, intervalNote } from "./format";
import { formatNumber, formatPercent } from "../../protocol/quantities";
import { previewNote } from "./previewNote";
import type { ReportData } from "./reportData";
import { stageColumns, stageRows } from "./stageTable";

/** The same report as Markdown, for pull requests and model cards; charts become tables. */
export function renderMarkdown(data: ReportData): string {
  const { run, table, verdict, routing, divergence, calibration, distillation, plan, evaluation } = data;
  const dense = data.dense && denseTable(data.dense);
  const parts: (string | null)[] = [
    `# Reroute: ${escapeMarkdown(run.name)}`,
    `**${escapeMarkdown(verdict)}**`,
    table &&
      markdownTable(
        ["", ...table.columns],
        table.rows.map(({ label, unit, cells }) => [unit === "" ? label : `${label} (${unit})`, ...cells]),
      ),
    evaluation &&
      `Measured on ${evaluation.data.sequences} held-out sequences of ${evaluation.data.sequenceLength} tokens. ${intervalNote(evaluation)}`,
    "## Stages",
    markdownTable(stageColumns, stageRows(run)),
    routing && "## Routing of the teacher",
    routing?.preview ? escapeMarkdown(previewNote(routing.preview)) : null,
    routing &&
      markdownTable(
        [
          "Layer",
          "Coefficient of variation",
          "Normalised entropy",
          "Never used",
          "Selected mass",
          "Top-k margin",
          "Token entropy (nats)",
        ],
        routing.byDomain[""]!.layers.map((l) => [
          String(l.layer),
          formatNumber(l.coefficientOfVariation),
          formatNumber(l.normalisedEntropy),
          String(l.neverUsed),
          formatOptional(l.selectedMass, formatPercent),
          formatOptional(l.topKMargin, formatNumber),
          formatOptional(l.tokenEntropy, formatNumber),
        ]),
      ),
    divergence && "## Divergence of the routing",
    divergence && `${escapeMarkdown(divergence.mapping.description)}.`,
    divergence &&
      markdownTable(
        ["Layer", "KL before", "KL after", "Top-k overlap before", "Top-k overlap after"],
        divergence.layers.map((layer, i) => {
          const [before, after] = [divergence.before?.byLayer[i], divergence.after?.byLayer[i]];
          return [
            String(layer),
            before ? formatNumber(before.routingKl) : "–",
            after ? formatNumber(after.routingKl) : "–",
            before ? formatPercent(before.topKOverlap) : "–",
            after ? formatPercent(after.topKOverlap) : "–",
          ];
        }),
      ),
    dense && `## ${dense.title}`,
    dense && escapeMarkdown(dense.about),
    dense && markdownTable(dense.head, dense.rows),
    calibration && calibration.heldOut.length > 0 ? "## Calibration" : null,
    calibration && calibration.heldOut.length > 0
      ? markdownTable(
          ["Update", "Held-out KL (nats a token)", ""],
          calibration.heldOut.map(({ step, kl }) => [
            String(step),
            kl.toFixed(5),
            step === calibration.bestStep ? "best" : "",
          ]),
        )
      : null,
    ...(distillation ? distillationTables(distillation) : []).flatMap(({ title, head, rows }) => [
      `## ${title}`,
      markdownTable(head, rows),
    ]),
    plan && `## Compression plan: ${plan.paradigm} by ${escapeMarkdown(plan.method)}`,
    plan?.notes && plan.notes.length > 0 ? plan.notes.map((note) => `- ${escapeMarkdown(note)}`).join("\n") : null,
    "## What the numbers mean",
    markdownTable(
      ["Number", "Unit", "Definition", "File"],
      numberDefinitions.map(({ name, unit, meaning, source }) => [name, unit, meaning, source]),
    ),
  ];
  return `${parts.filter((part) => part !== null && part !== "").join("\n\n")}\n`;
}

/** Cells are escaped. */
export function markdownTable(head: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.map(escapeMarkdown).join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...rows.map(line)].join("\n");
}
