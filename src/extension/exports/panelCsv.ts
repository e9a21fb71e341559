import type {
  CalibrationPanelData,
  DivergencePanelData,
  RoutingPanelData,
  SimilarityPanelData,
  TradeOffPanelData,
} from "../../protocol/panels";

type Cell = string | number | boolean | null;

/** One row per domain, layer and expert. Shares and weights are fractions; frequency counts tokens. */
export function routingCsv({ layers, byDomain }: RoutingPanelData): string {
  const rows = Object.entries(byDomain).flatMap(([domain, { utilisation, frequency, meanRoutingWeight }]) =>
    utilisation.values.map((share, cell): Cell[] => [
      domain === "" ? "all" : domain,
      layers[Math.floor(cell / utilisation.columns)] ?? null,
      cell % utilisation.columns,
      share,
      frequency.values[cell] ?? null,
      meanRoutingWeight.values[cell] ?? null,
    ]),
  );
  return table(["domain", "layer", "expert", "utilisation", "frequency_tokens", "mean_routing_weight"], rows);
}

/** One row per layer and teacher expert; KL contributions in nats a token, empty where the student has no such expert. */
export function divergenceCsv({ layers, numExperts, before, after }: DivergencePanelData): string {
  const rows = layers.flatMap((layer, row) =>
    Array.from({ length: numExperts }, (_, expert): Cell[] => [
      layer,
      expert,
      before?.kl.values[row * numExperts + expert] ?? null,
      after?.kl.values[row * numExperts + expert] ?? null,
    ]),
  );
  return table(["layer", "teacher_expert", "routing_kl_before_nats", "routing_kl_after_nats"], rows);
}

/** The matrix of one layer, one row per pair of experts. */
export function similarityCsv({ layer, metric, matrix }: SimilarityPanelData): string {
  const rows = matrix.values.map((value, cell): Cell[] => [
    layer,
    Math.floor(cell / matrix.columns),
    cell % matrix.columns,
    value,
  ]);
  return table(["layer", "expert_a", "expert_b", metric.replaceAll("-", "_")], rows);
}

/** One row per update or held-out evaluation, in order of step. */
export function calibrationCsv({ updates, heldOut }: CalibrationPanelData): string {
  const rows: { step: number; cells: Cell[] }[] = [
    ...updates.map(({ step, loss, learningRate, gradientNorm }) => ({
      step,
      cells: ["update", step, loss, learningRate, gradientNorm, null, null, null],
    })),
    ...heldOut.map(({ step, kl, nll, best }) => ({ step, cells: ["held-out", step, null, null, null, kl, nll, best] })),
  ];
  rows.sort((a, b) => a.step - b.step);
  const header = [
    "kind",
    "step",
    "loss_nats",
    "learning_rate",
    "gradient_norm",
    "held_out_kl_nats",
    "held_out_nll_nats",
    "best",
  ];
  return table(
    header,
    rows.map(({ cells }) => cells),
  );
}

/** One row per checkpoint of any run. */
export function tradeOffCsv({ points }: TradeOffPanelData): string {
  const rows = points.map((point): Cell[] => [
    point.run,
    point.label,
    point.stage,
    point.method,
    point.keep,
    point.group.label,
    point.parametersTotal,
    point.bytes,
    point.klToTeacher,
    point.klHalfWidth,
    point.nllPerToken,
    point.nllHalfWidth,
    point.tokensPerSecond,
    point.peakMemoryBytes,
  ]);
  const header = [
    "run",
    "label",
    "stage",
    "method",
    "keep",
    "measured_on",
    "parameters",
    "bytes",
    "kl_nats",
    "kl_half_width_95",
    "nll_nats",
    "nll_half_width_95",
    "tokens_per_second",
    "peak_memory_bytes",
  ];
  return table(header, rows);
}

function table(header: string[], rows: Cell[][]): string {
  return [header, ...rows].map((row) => row.map(cellText).join(",")).join("\r\n") + "\r\n";
}

/** RFC 4180. Text that a spreadsheet would run as a formula gets a quote in front: names come from untrusted files. */
function cellText(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell !== "string") return String(cell);
  const inert = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}
