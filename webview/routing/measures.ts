import type { RoutingDomainData, RoutingLayerData, RoutingPanelData } from "../../src/protocol/panels";
import { count, decimal, percent } from "../common/format";
import { t } from "../common/translate";

/** What the heatmap can show of every layer and expert. */
export const cellMeasures = {
  utilisation: { label: t("Utilisation share"), quantity: t("share of the layer's routed slots"), format: percent },
  frequency: { label: t("Tokens routed"), quantity: t("tokens routed to the expert"), format: count },
  meanRoutingWeight: { label: t("Mean routing weight"), quantity: t("mean routing weight"), format: format4 },
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
    title: t("Load imbalance by layer"),
    unit: t("coefficient of variation"),
    note: t("Standard deviation over mean of the experts' token counts: 0 is even load."),
    series: [{ label: t("coefficient of variation"), value: (l) => l.coefficientOfVariation }],
  },
  {
    id: "entropy",
    title: t("Normalised entropy and selected mass by layer"),
    unit: "share",
    note: t("Entropy of the load over log(experts), 1 is even load; and the softmax mass on the selected experts."),
    series: [
      { label: t("normalised entropy"), value: (l) => l.normalisedEntropy },
      { label: t("selected mass"), value: (l) => l.selectedMass },
    ],
    range: { min: 0, max: 1 },
  },
  {
    id: "neverUsed",
    title: t("Never-used experts by layer"),
    unit: "experts",
    note: t("Experts that no profiled token was routed to."),
    series: [{ label: t("never-used experts"), value: (l) => l.neverUsed }],
    bars: true,
  },
  {
    id: "margin",
    title: t("Top-k margin by layer"),
    unit: t("router logits"),
    note: t(
      "Mean difference between the last selected and the first unselected router logit: small means fragile choices.",
    ),
    series: [{ label: "top-k margin", value: (l) => l.topKMargin }],
  },
  {
    id: "tokenEntropy",
    title: t("Entropy of a token's routing by layer"),
    unit: "nats",
    note: t("Mean entropy of a token's routing distribution: 0 is certain."),
    series: [{ label: t("token entropy"), value: (l) => l.tokenEntropy }],
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

/** That a profile is approximate, and by how much. */
export function approximationText({
  tokens,
  topKOverlap,
  worstLayer,
  reapRank,
}: NonNullable<RoutingPanelData["preview"]>): string {
  return t(
    "Approximate profile (precision preview): on a sample of {0} tokens, {1} of the experts that exact products select are selected (layer {2}: {3}), and REAP orders a layer's experts with a rank correlation of at least {4}.",
    count(tokens),
    percent(topKOverlap),
    String(worstLayer.layer),
    percent(worstLayer.topKOverlap),
    decimal(reapRank, 3),
  );
}

/** "Layer 3: experts 1, 7; layer 5: expert 0": who was never used. */
export function neverUsedText(data: RoutingPanelData, maxLayers = 12): string {
  const byLayer = new Map<number, number[]>();
  for (const [layer, expert] of data.neverUsed) byLayer.set(layer, [...(byLayer.get(layer) ?? []), expert]);
  const parts = [...byLayer].map(
    ([layer, experts]) => `layer ${layer}: ${experts.length === 1 ? "expert" : "experts"} ${experts.join(", ")}`,
  );
  const rest = parts.length - maxLayers;
  return parts.slice(0, maxLayers).join("; ") + (rest > 0 ? t("; and {0} more layers", rest) : "");
}
