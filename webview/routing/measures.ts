import type { RoutingDomainData, RoutingLayerData, RoutingPanelData } from "../../src/protocol/panels";
import { count, decimal, percent } from "../common/format";

/** What the heatmap can show of every layer and expert. */
export const cellMeasures = {
  utilisation: { label: "Utilisation share", quantity: "share of the layer's routed slots", format: percent },
  frequency: { label: "Tokens routed", quantity: "tokens routed to the expert", format: count },
  meanRoutingWeight: { label: "Mean routing weight", quantity: "mean routing weight", format: format4 },
} as const;
export type CellMeasure = keyof typeof cellMeasures;
export const cellMeasureNames = Object.keys(cellMeasures) as CellMeasure[];

function format4(value: number | null): string {
  return decimal(value, 4);
}

/** What the charts by layer show. */
export const layerMeasures: readonly {
  id: string;
  title: string;
  unit: string;
  note: string;
  series: readonly { label: string; value: (layer: RoutingLayerData) => number | null }[];
  range?: { min: number; max: number };
  bars?: boolean;
}[] = [
  {
    id: "variation",
    title: "Load imbalance by layer",
    unit: "coefficient of variation",
    note: "Standard deviation over mean of the experts' token counts: 0 is even load.",
    series: [{ label: "coefficient of variation", value: (l) => l.coefficientOfVariation }],
  },
  {
    id: "entropy",
    title: "Normalised entropy and selected mass by layer",
    unit: "share",
    note: "Entropy of the load over log(experts), 1 is even load; and the softmax mass on the selected experts.",
    series: [
      { label: "normalised entropy", value: (l) => l.normalisedEntropy },
      { label: "selected mass", value: (l) => l.selectedMass },
    ],
    range: { min: 0, max: 1 },
  },
  {
    id: "neverUsed",
    title: "Never-used experts by layer",
    unit: "experts",
    note: "Experts that no profiled token was routed to.",
    series: [{ label: "never-used experts", value: (l) => l.neverUsed }],
    bars: true,
  },
  {
    id: "margin",
    title: "Top-k margin by layer",
    unit: "router logits",
    note: "Mean difference between the last selected and the first unselected router logit: small means fragile choices.",
    series: [{ label: "top-k margin", value: (l) => l.topKMargin }],
  },
  {
    id: "tokenEntropy",
    title: "Entropy of a token's routing by layer",
    unit: "nats",
    note: "Mean entropy of a token's routing distribution: 0 is certain.",
    series: [{ label: "token entropy", value: (l) => l.tokenEntropy }],
  },
];

/**
 * The values of a measure for one domain, or their difference to all domains together.
 * A cell without a value on either side has no difference.
 */
export function cellValues(
  domain: RoutingDomainData,
  overall: RoutingDomainData | null,
  measure: CellMeasure,
): (number | null)[] {
  const { values } = domain[measure];
  if (!overall) return values;
  const base = overall[measure].values;
  return values.map((value, i) => {
    const other = base[i] ?? null;
    return value === null || other === null ? null : value - other;
  });
}

/** "Layer 3: experts 1, 7; layer 5: expert 0": who was never used. */
export function neverUsedText(data: RoutingPanelData, maxLayers = 12): string {
  const byLayer = new Map<number, number[]>();
  for (const [layer, expert] of data.neverUsed) byLayer.set(layer, [...(byLayer.get(layer) ?? []), expert]);
  const parts = [...byLayer].map(
    ([layer, experts]) => `layer ${layer}: ${experts.length === 1 ? "expert" : "experts"} ${experts.join(", ")}`,
  );
  const rest = parts.length - maxLayers;
  return parts.slice(0, maxLayers).join("; ") + (rest > 0 ? `; and ${rest} more layers` : "");
}
