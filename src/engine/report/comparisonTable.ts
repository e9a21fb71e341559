import type { EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import { formatBytes, formatCount, formatNumber, formatPercent } from "../../protocol/quantities";

/** The before/after table: one column a checkpoint, cells ready to show. "–" where a number does not exist. */
export interface ComparisonTable {
  columns: string[];
  rows: { label: string; unit: string; cells: string[] }[];
}

type Estimate = ModelEvaluation["uncertainty"]["nllPerToken"];

/** Teacher, compressed and calibrated checkpoint side by side; null before anything was evaluated. */
export function comparisonTable(evaluation: EvaluationFile | null): ComparisonTable | null {
  if (!evaluation) return null;
  const columns = [
    { name: "Teacher", model: evaluation.teacher },
    { name: evaluation.after ? "Before calibration" : "Student", model: evaluation.before },
    { name: "After calibration", model: evaluation.after },
  ].flatMap(({ name, model }) => (model ? [{ name, model }] : []));
  if (columns.length === 0) return null;
  const row = (label: string, unit: string, cell: (model: ModelEvaluation) => string) => ({
    label,
    unit,
    cells: columns.map(({ model }) => cell(model)),
  });
  return {
    columns: columns.map(({ name }) => name),
    rows: [
      row("Parameters", "", ({ cost }) => formatCount(cost.parametersTotal)),
      row("Active parameters", "a token", ({ cost }) => formatCount(cost.parametersActive)),
      row("Size", "", ({ cost }) => formatBytes(cost.bytes)),
      row("FLOPs", "a token", ({ cost }) => formatCount(cost.flopsPerToken)),
      row("Loss", "nats a token", (m) => withError(m.nllPerToken, m.uncertainty.nllPerToken)),
      row("Perplexity", "", (m) => formatNumber(m.perplexity)),
      row("KL to the teacher", "nats a token", (m) =>
        optional(m.klToTeacher, (kl) => withError(kl, m.uncertainty.klToTeacher)),
      ),
      row("Top-1 agreement", "", (m) => optional(m.top1Agreement, formatPercent)),
      row("Speed", "tokens a second", ({ cost }) => speed(cost)),
      row("Peak memory", "", ({ cost }) => optional(cost.peakMemoryBytes, formatBytes)),
    ],
  };
}

/** With its quartiles, since a machine's speed scatters. */
function speed({ tokensPerSecond, tokensPerSecondQuartiles: quartiles }: ModelEvaluation["cost"]): string {
  const spread = quartiles ? ` (${formatCount(quartiles[0])} to ${formatCount(quartiles[1])})` : "";
  return optional(tokensPerSecond, (rate) => formatCount(rate) + spread);
}

function withError(value: number, estimate: Estimate | null): string {
  if (!estimate) return value.toFixed(4);
  return `${value.toFixed(4)} ± ${estimate.halfWidth95.toFixed(4)}`;
}

function optional(value: number | null, format: (value: number) => string): string {
  return value === null ? "–" : format(value);
}
