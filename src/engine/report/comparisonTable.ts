import type { EvaluationFile, ModelEvaluation } from "../../protocol/evaluation";
import { batchTokens } from "../../protocol/evaluation";
import { formatBytes, formatCount, formatNumber, formatPercent } from "../../protocol/quantities";
import { formatEstimate } from "./format";

/** The before/after table: one column a checkpoint, cells ready to show. "–" where a number does not exist. */
export interface ComparisonTable {
  columns: string[];
  rows: { label: string; unit: string; cells: string[] }[];
}

type Estimate = ModelEvaluation["uncertainty"]["nllPerToken"];

/** Teacher, compressed and calibrated checkpoint side by side; null before anything was evaluated. */
export function comparisonTable(evaluation: EvaluationFile | null): ComparisonTable | null {
  if (!evaluation) return null;
  const students = evaluation.steps?.map(({ number, name, evaluation: model }) => ({
    name: `${number} ${name}`,
    model,
  })) ?? [
    { name: evaluation.after ? "Before calibration" : "Student", model: evaluation.before },
    { name: "After calibration", model: evaluation.after },
  ];
  const columns = [{ name: "Teacher", model: evaluation.teacher }, ...students].flatMap(({ name, model }) =>
    model ? [{ name, model }] : [],
  );
  if (columns.length === 0) return null;
  const row = (label: string, unit: string, cell: (model: ModelEvaluation) => string) => ({
    label,
    unit,
    cells: columns.map(({ model }) => cell(model)),
  });
  return {
    columns: columns.map(({ name }) => name),
    // What no checkpoint has, as in files of earlier versions, is not listed.
    rows: [
      row("Parameters", "", ({ cost }) => formatCount(cost.parametersTotal)),
      row("Active parameters", "a token", ({ cost }) => formatCount(cost.parametersActive)),
      row("Size", "", ({ cost }) => formatBytes(cost.bytes)),
      row("Bits a weight", "", ({ cost }) => optional(cost.bitsPerWeight ?? null, formatNumber)),
      row("Bits a weight of experts", "", ({ cost }) => optional(cost.expertBitsPerWeight ?? null, formatNumber)),
      row("FLOPs", "a token", ({ cost }) => formatCount(cost.flopsPerToken)),
      row("Activations of experts", "rounded a token at a time", ({ activations }) => activations ?? "–"),
      row("Loss", "nats a token", (m) => withError(m.nllPerToken, m.uncertainty.nllPerToken)),
      row("Perplexity", "", (m) => formatNumber(m.perplexity)),
      row("KL to the teacher", "nats a token", (m) =>
        optional(m.klToTeacher, (kl) => withError(kl, m.uncertainty.klToTeacher)),
      ),
      ...(columns.some(({ model }) => model.task)
        ? [
            row("Task accuracy", "", ({ task }) => optional(task?.accuracy ?? null, share)),
            row("Task accuracy by length", "", ({ task }) => optional(task?.accuracyNormalised ?? null, share)),
          ]
        : []),
      row("Top-1 agreement", "", (m) => optional(m.top1Agreement, formatPercent)),
      row("Exact selection", "of the teacher's experts", ({ routing }) =>
        optional(
          meanOf(routing, ({ exactSet }) => exactSet),
          formatPercent,
        ),
      ),
      row("Utilisation moved", "total variation", ({ routing }) =>
        optional(
          meanOf(routing, ({ load }) => load?.totalVariation),
          formatPercent,
        ),
      ),
      row("Coefficient of variation", "of tokens per expert", ({ routing }) =>
        beside(routing, "coefficientOfVariation"),
      ),
      row("Dead experts", "", ({ routing }) => beside(routing, "dead")),
      row("Speed", "tokens a second", ({ cost }) => speed(cost)),
      row("Latency of one token", "ms, median and 90 %", ({ cost }) => latency(cost, 1)),
      ...batchTokens
        .slice(1)
        .flatMap((tokens) => [
          row(`Latency of ${tokens} tokens`, "ms, median and 90 %", ({ cost }) => latency(cost, tokens)),
          row(`Throughput of ${tokens} tokens`, "tokens a second", ({ cost }) =>
            optional(batchOf(cost, tokens)?.tokensPerSecond ?? null, formatCount),
          ),
        ]),
      row("Share of the matrix-product rate", "largest batch", ({ cost }) =>
        optional(cost.speed?.batches.at(-1)?.gemmShare ?? null, formatPercent),
      ),
      row("Share of the memory bandwidth", "one token", ({ cost }) =>
        optional(cost.speed?.bandwidthShare ?? null, formatPercent),
      ),
      row("Peak memory", "", ({ cost }) => optional(cost.peakMemoryBytes, formatBytes)),
    ].filter(({ cells }) => cells.some((cell) => cell !== "–")),
  };
}

type Cost = ModelEvaluation["cost"];

function batchOf({ speed: measured }: Cost, tokens: number) {
  return measured?.batches.find((batch) => batch.tokens === tokens);
}

function latency(cost: Cost, tokens: number): string {
  const batch = batchOf(cost, tokens);
  return batch === undefined ? "–" : `${formatNumber(batch.medianMs)}, ${formatNumber(batch.p90Ms)}`;
}

type Layers = ModelEvaluation["routing"];

/** Mean over layers; null where the teacher stands alone, or an earlier version measured. */
function meanOf(layers: Layers, of: (layer: NonNullable<Layers>[number]) => number | undefined): number | null {
  const values = (layers ?? []).flatMap((layer) => of(layer) ?? []);
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The student's beside the teacher's on the same text: of a coefficient the mean over layers, of experts their number. */
function beside(layers: Layers, what: "coefficientOfVariation" | "dead"): string {
  const side = (who: "teacher" | "student") => {
    const mean = meanOf(layers, ({ load }) => load?.[who][what]);
    return mean === null ? null : what === "dead" ? Math.round(mean * (layers?.length ?? 0)) : mean;
  };
  const [theirs, own] = [side("teacher"), side("student")];
  return theirs === null || own === null ? "–" : `${formatNumber(own)} (teacher ${formatNumber(theirs)})`;
}

/** With its quartiles, since a machine's speed scatters. */
function speed({ tokensPerSecond, tokensPerSecondQuartiles: quartiles }: ModelEvaluation["cost"]): string {
  const spread = quartiles ? ` (${formatCount(quartiles[0])} to ${formatCount(quartiles[1])})` : "";
  return optional(tokensPerSecond, (rate) => formatCount(rate) + spread);
}

function withError(value: number, estimate: Estimate | null): string {
  return estimate ? formatEstimate({ ...estimate, mean: value }) : value.toFixed(4);
}

function share(estimate: Estimate): string {
  return formatEstimate(estimate, formatPercent);
}

function optional<T>(value: T | null, format: (value: T) => string): string {
  return value === null ? "–" : format(value);
}
