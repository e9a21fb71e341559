import type {
  MatrixData,
  RoutingDomainData,
  RoutingPanelData,
  SimilarityMetric,
  SimilarityPanelData,
} from "../../protocol/panels";
import { similarityMetrics } from "../../protocol/panels";
import { averageLinkage, dendrogramOrder } from "./averageLinkage";
import {
  ofDomain,
  overDomains,
  tokensSeen,
  type LayerStatistics,
  type RoutingStatisticsData,
  type StatisticsField,
} from "./layerStatistics";
import { coefficientOfVariation, neverUsed, normalisedEntropy, utilisation } from "./loadBalance";
import { similarityMatrix, toDistances } from "./similarity";

/** Routing panel: layers x experts matrices, all domains under "" and each domain under its name. */
export function routingPanelOf(statistics: RoutingStatisticsData): RoutingPanelData {
  const { layers, domainNames } = statistics;
  const byDomain: Record<string, RoutingDomainData> = Object.create(null) as Record<string, RoutingDomainData>;
  byDomain[""] = domainData(layers, overDomains);
  if (domainNames.length > 1) {
    domainNames.forEach((name, d) => {
      if (name !== "") byDomain[name] = domainData(layers, (layer, field) => ofDomain(layer, field, d));
    });
  }
  return {
    ...(statistics.preview ? { preview: statistics.preview } : {}),
    checkpoint: statistics.checkpoint,
    tokens: layers[0] ? tokensSeen(layers[0]) : 0,
    numExpertsPerToken: layers[0]?.numExpertsPerToken ?? 0,
    layers: layers.map(({ layer }) => layer),
    numExperts: widest(layers),
    domains: domainNames.filter((name) => name in byDomain && name !== ""),
    byDomain,
    neverUsed: layers.flatMap((layer) =>
      neverUsed(overDomains(layer, "frequency")).map((expert): [number, number] => [layer.layer, expert]),
    ),
  };
}

export interface SimilarityRequest {
  layer?: number;
  metric?: SimilarityMetric;
  groups?: number[][];
  dropped?: number[];
}

/** Similarity panel of one layer (the first by default); null for a layer or a profile that holds nothing to compare by. */
export function similarityPanelOf(
  statistics: RoutingStatisticsData,
  request: SimilarityRequest = {},
): SimilarityPanelData | null {
  const layer = statistics.layers.find((l) => l.layer === (request.layer ?? statistics.layers[0]?.layer));
  if (!layer) return null;
  const available = similarityMetrics.filter((metric) => similarityMatrix(layer, metric) !== null);
  const metric = request.metric !== undefined && available.includes(request.metric) ? request.metric : available[0];
  if (metric === undefined) return null;
  const matrix = similarityMatrix(layer, metric)!;
  const n = metric === "router-logit-cosine" ? layer.numRouterRows : layer.numExperts;
  return {
    layers: statistics.layers.map((l) => l.layer),
    layer: layer.layer,
    metric,
    available,
    numExperts: n,
    matrix: { rows: n, columns: n, values: finiteOrNull(matrix) },
    dendrogramOrder: dendrogramOrder(averageLinkage(toDistances(matrix, metric, n), n), n),
    groups: request.groups ?? [],
    dropped: request.dropped ?? [],
  };
}

type FieldReader = (layer: LayerStatistics, field: StatisticsField) => Float64Array;

function domainData(layers: LayerStatistics[], read: FieldReader): RoutingDomainData {
  const columns = widest(layers);
  const matrix = (rowOf: (layer: LayerStatistics) => Float64Array): MatrixData => ({
    rows: layers.length,
    columns,
    values: layers.flatMap((layer) => padded(finiteOrNull(rowOf(layer)), columns)),
  });
  return {
    tokens: layers[0] ? read(layers[0], "tokens").reduce((sum, n) => sum + n, 0) : 0,
    utilisation: matrix((layer) => utilisation(read(layer, "frequency"))),
    frequency: matrix((layer) => read(layer, "frequency")),
    meanRoutingWeight: matrix((layer) => {
      const frequency = read(layer, "frequency");
      return read(layer, "routingWeightSum").map((sum, e) => sum / frequency[e]!);
    }),
    layers: layers.map((layer) => {
      const frequency = read(layer, "frequency");
      const tokens = Math.max(
        1,
        read(layer, "tokens").reduce((sum, n) => sum + n, 0),
      );
      return {
        layer: layer.layer,
        coefficientOfVariation: coefficientOfVariation(frequency),
        normalisedEntropy: normalisedEntropy(frequency),
        neverUsed: neverUsed(frequency).length,
        selectedMass: valueOrNull(read(layer, "selectedMassSum")[0]! / tokens),
        topKMargin: valueOrNull(read(layer, "topKMarginSum")[0]! / tokens),
        tokenEntropy: valueOrNull(read(layer, "tokenEntropySum")[0]! / tokens),
      };
    }),
  };
}

function widest(layers: LayerStatistics[]): number {
  return layers.reduce((most, { numRouterRows }) => Math.max(most, numRouterRows), 0);
}

function padded(row: (number | null)[], columns: number): (number | null)[] {
  return [...row, ...new Array<null>(columns - row.length).fill(null)];
}

function finiteOrNull(values: Float64Array): (number | null)[] {
  return Array.from(values, valueOrNull);
}

function valueOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
