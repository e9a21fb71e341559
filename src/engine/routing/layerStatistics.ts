import { addArrays, largerOfArrays } from "../tensor/treeFold";
import type { PreviewAgreement } from "../../protocol/panels";
import type { ProfileSamples } from "./samples";

/**
 * What one MoE layer did over all profiled tokens. Sums and counts, not means, so that two profiles add up.
 * Axes: D domains, R router rows, E experts (fewer than rows where merged experts share one), H hidden size. Everything is accumulated in float64; padding is never counted.
 * "Routing weight" is the number that multiplies the expert's output in the model; f_e(x) is the expert's output
 * without it.
 */
export interface LayerStatistics extends LayerShape {
  numRouterRows: number;
  /** [D] tokens seen. */
  tokens: Float64Array;
  /** [D, R] tokens routed to the expert by this row. */
  frequency: Float64Array;
  /** [D, R] sum of routing weights g. */
  routingWeightSum: Float64Array;
  /** [D, R] sum of ||f_e(x)||_2 over routed tokens (EAN). */
  outputNormSum: Float64Array;
  /** [D, R] sum of ||f_e(x)||_2^2. */
  squaredNormSum: Float64Array;
  /** [D, R] sum of g ||f_e(x)||_2; divided by the frequency it is REAP (arXiv 2510.13999, eq. 9). */
  weightedNormSum: Float64Array;
  /** [D, R] the same with the REAP authors' weights: softmax over all logits, see authorsRenormalise. */
  softmaxWeightedNormSum: Float64Array;
  /** [D, R] sum of g ||f_e(x)||_2 max(1 - cos(x, x + y), 0) (EASY-EP). */
  easyEpSum: Float64Array;
  /** [D, R] largest channel of f_e(x), signed; -Infinity where no token was routed. */
  maxActivation: Float64Array;
  /** [D, R] largest absolute channel of f_e(x); 0 where no token was routed. */
  maxAbsoluteActivation: Float64Array;
  /** [D] sum over tokens of the softmax mass of the selected experts. */
  selectedMassSum: Float64Array;
  /** [D] sum over tokens of the smallest selected minus the largest unselected router logit. */
  topKMarginSum: Float64Array;
  /** [D] sum over tokens of the entropy of softmax(router logits), nats. */
  tokenEntropySum: Float64Array;
  /** [E, H] sum of f_e(x) over routed tokens, all domains. */
  outputSum: Float64Array;
  /** [R, R] sum over tokens of z z^T, z the router logits; symmetric. */
  logitGram: Float64Array;
  /** [R] sum over tokens of z. */
  logitSum: Float64Array;
  /** [E, E] cosine of the experts' weights, where a stage computed it; not a sum over tokens. */
  weightCosine: Float64Array | null;
  /**
   * Fields that nobody recorded (traces of other programs hold frequencies only): their arrays are NaN throughout, so
   * that nothing made from them looks like a measured 0. Absent: all were recorded.
   */
  missing?: ReadonlySet<StatisticsField>;
}

/** Arrays of LayerStatistics with the axes they have, in the order they are stored. */
export const statisticsAxes = {
  tokens: ["D"],
  frequency: ["D", "R"],
  routingWeightSum: ["D", "R"],
  outputNormSum: ["D", "R"],
  squaredNormSum: ["D", "R"],
  weightedNormSum: ["D", "R"],
  softmaxWeightedNormSum: ["D", "R"],
  easyEpSum: ["D", "R"],
  maxActivation: ["D", "R"],
  maxAbsoluteActivation: ["D", "R"],
  selectedMassSum: ["D"],
  topKMarginSum: ["D"],
  tokenEntropySum: ["D"],
  outputSum: ["E", "H"],
  logitGram: ["R", "R"],
  logitSum: ["R"],
} as const satisfies Record<string, readonly ("D" | "R" | "E" | "H")[]>;

export type StatisticsField = keyof typeof statisticsAxes;
export const statisticsFields = Object.keys(statisticsAxes) as StatisticsField[];

/** Statistics of a whole model, with what is needed to read them alone. */
export interface RoutingStatisticsData {
  /** Folder of the profiled checkpoint, and its fingerprint. */
  checkpoint: string;
  fingerprint: string;
  domainNames: string[];
  /** Ascending by layer number. */
  layers: LayerStatistics[];
  /** Single tokens; absent in imported traces and in profiles of older versions. */
  samples?: ProfileSamples;
  /** How far a profile with approximate products (precision preview) agrees with exact ones; absent: it is exact. */
  preview?: PreviewAgreement;
  /** Of a profile that is not done: how far these sums go, and a name for what they are made from. */
  progress?: { key: string; shard: number; layers: number };
}

export interface LayerShape {
  layer: number;
  numExperts: number;
  /** [R]: the expert of each router row; absent where row e is expert e. */
  expertOfRow?: readonly number[];
  numExpertsPerToken: number;
  hiddenSize: number;
}

/** Zeroed statistics of one layer. */
export function emptyLayerStatistics(shape: LayerShape, numDomains: number): LayerStatistics {
  const arrays = Object.fromEntries(
    statisticsFields.map((field) => [field, new Float64Array(fieldSize(field, shape, numDomains))]),
  ) as Record<StatisticsField, Float64Array>;
  arrays.maxActivation.fill(-Infinity);
  return { ...shape, ...arrays, numRouterRows: routerRows(shape), weightCosine: null };
}

/** Statistics of one layer of which only some fields are known: those zeroed, the others NaN. */
export function partialLayerStatistics(
  shape: LayerShape,
  numDomains: number,
  known: readonly StatisticsField[],
): LayerStatistics {
  const layer = emptyLayerStatistics(shape, numDomains);
  const missing = new Set(statisticsFields.filter((field) => !known.includes(field)));
  for (const field of missing) layer[field].fill(NaN);
  return { ...layer, missing };
}

/** Adds the right layer's sums to the left one's, of the same shape; maxima become the larger ones. */
export function addLayerStatistics(left: LayerStatistics, right: LayerStatistics): LayerStatistics {
  for (const field of statisticsFields) (isMaximum(field) ? largerOfArrays : addArrays)(left[field], right[field]);
  return left;
}

function isMaximum(field: StatisticsField): boolean {
  return field === "maxActivation" || field === "maxAbsoluteActivation";
}

/** Router rows of a layer. */
export function routerRows({ expertOfRow, numExperts }: LayerShape): number {
  return expertOfRow?.length ?? numExperts;
}

/** Dimensions of a field's array. */
export function fieldShape(field: StatisticsField, shape: LayerShape, numDomains: number): number[] {
  const sizes = { D: numDomains, R: routerRows(shape), E: shape.numExperts, H: shape.hiddenSize };
  return statisticsAxes[field].map((axis) => sizes[axis]);
}

function fieldSize(field: StatisticsField, shape: LayerShape, numDomains: number): number {
  return fieldShape(field, shape, numDomains).reduce((product, size) => product * size, 1);
}

/** A [D, R] (or [D]) field added over domains (or its maximum, for the two maxima). */
export function overDomains(layer: LayerStatistics, field: StatisticsField): Float64Array {
  const values = layer[field];
  const columns = statisticsAxes[field].length === 1 ? 1 : layer.numRouterRows;
  const isLargest = isMaximum(field);
  const total = new Float64Array(columns).fill(isLargest ? -Infinity : 0);
  for (let i = 0; i < values.length; i++) {
    const column = i % columns;
    total[column] = isLargest ? Math.max(total[column]!, values[i]!) : total[column]! + values[i]!;
  }
  return total;
}

/** The rows of one domain of a [D, R] or [D] field; a view. */
export function ofDomain(layer: LayerStatistics, field: StatisticsField, domain: number): Float64Array {
  const columns = statisticsAxes[field].length === 1 ? 1 : layer.numRouterRows;
  return layer[field].subarray(domain * columns, (domain + 1) * columns);
}

/** [E] tokens routed to each expert, by whichever of its rows, all domains. */
export function expertFrequency(layer: LayerStatistics): Float64Array {
  const byRow = overDomains(layer, "frequency");
  if (layer.expertOfRow === undefined) return byRow;
  const frequency = new Float64Array(layer.numExperts);
  for (const [row, expert] of layer.expertOfRow.entries()) frequency[expert]! += byRow[row]!;
  return frequency;
}

/** Tokens of the layer, all domains. */
export function tokensSeen(layer: LayerStatistics): number {
  return layer.tokens.reduce((sum, n) => sum + n, 0);
}
