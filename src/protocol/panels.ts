import type { CalibrateOptions } from "./calibrateOptions";
import type { Verdict } from "./verdict";

/**
 * What each panel shows. The engine derives these from files of the run folder; pages only draw them.
 * Matrices are row-major arrays of finite numbers or null where a cell has no value.
 */

export interface MatrixData {
  rows: number;
  columns: number;
  /** Length rows * columns, row-major. */
  values: (number | null)[];
}

/** Routing panel: how a checkpoint's experts are used on the profiled text. */
/** Of a profile with precision preview: what a sample of its sequences gave with exact products too. */
export interface PreviewAgreement {
  sequences: number;
  tokens: number;
  /** Share of the experts that both passes select, over tokens and layers; and of the layer where it is smallest. */
  topKOverlap: number;
  worstLayer: { layer: number; topKOverlap: number };
  /** Rank correlation (Spearman) of both passes' REAP scores over a layer's experts, the layer's where it is smallest. */
  reapRank: number;
}

export interface RoutingPanelData {
  checkpoint: string;
  tokens: number;
  numExpertsPerToken: number;
  /** Decoder layer numbers of the MoE layers, top row first. */
  layers: number[];
  numExperts: number;
  domains: string[];
  /** Keyed by domain; "" holds all domains together. */
  byDomain: Record<string, RoutingDomainData>;
  /** Experts that no profiled token reached, as [layer, expert]. */
  neverUsed: [number, number][];
  /** Of an approximate profile. */
  preview?: PreviewAgreement;
}

export interface RoutingDomainData {
  tokens: number;
  /** Layers x experts: share of the layer's routed slots that went to the expert (rows sum to 1). */
  utilisation: MatrixData;
  /** Layers x experts: number of tokens routed to the expert. */
  frequency: MatrixData;
  /** Layers x experts: mean routing weight over the tokens routed to the expert. */
  meanRoutingWeight: MatrixData;
  layers: RoutingLayerData[];
}

export interface RoutingLayerData {
  layer: number;
  /** Standard deviation over mean of the experts' frequencies. */
  coefficientOfVariation: number;
  /** Entropy of the utilisation divided by log(experts): 1 is even load. */
  normalisedEntropy: number;
  neverUsed: number;
  /** Mean softmax mass of the selected experts; the rest lies on unselected ones. Null, as the next two, in imported traces. */
  selectedMass: number | null;
  /** Mean difference between the last selected and the first unselected router logit. */
  topKMargin: number | null;
  /** Mean entropy of a token's routing distribution, nats. */
  tokenEntropy: number | null;
}

/** Divergence panel: student's routing against the teacher's, before and after calibration. */
export interface DivergencePanelData {
  teacher: string;
  student: string;
  layers: number[];
  /** Experts on the teacher's axis. */
  numExperts: number;
  mapping: { kind: "identity" | "kept" | "merged"; description: string };
  before: DivergenceData | null;
  after: DivergenceData | null;
}

export interface DivergenceData {
  /** Layers x teacher experts: contribution to the routing KL, nats a token; null where dropped. */
  kl: MatrixData;
  byLayer: { layer: number; routingKl: number; l1: number; topKOverlap: number }[];
}

export const similarityMetrics = ["router-logit-cosine", "output-cosine", "output-distance", "weight-cosine"] as const;
export type SimilarityMetric = (typeof similarityMetrics)[number];

/** Similarity panel: one layer's expert x expert matrix. */
export interface SimilarityPanelData {
  layers: number[];
  layer: number;
  metric: SimilarityMetric;
  /** Metrics that the profile of this run holds. */
  available: SimilarityMetric[];
  numExperts: number;
  matrix: MatrixData;
  /** Expert ids in dendrogram order (average linkage on the metric's distance). */
  dendrogramOrder: number[];
  /** Merge groups of the plan for this layer, as expert ids; empty without a merging plan. */
  groups: number[][];
  /** Experts that the plan drops. */
  dropped: number[];
}

/** Router KD panel. */
export interface CalibrationPanelData {
  /** What is trained on; absent: KL to the teacher. */
  loss?: CalibrateOptions["loss"] | undefined;
  /** What graphs run on, once the run has begun. */
  provider?: string;
  updates: { step: number; loss: number; learningRate: number; gradientNorm: number }[];
  heldOut: { step: number; kl: number; nll: number; best: boolean }[];
  totalUpdates: number | null;
  bestStep: number | null;
  verdict: { verdict: Verdict; trainedOn?: number | undefined; text: string } | null;
}

/** Trade-off panel: one point a checkpoint of any run. */
export interface TradeOffPanelData {
  points: TradeOffPoint[];
}

export interface TradeOffPoint {
  run: string;
  /** What a page names when it asks for the run's report. */
  runDirectory: string;
  label: string;
  /** What was measured: only points of one group may be compared. */
  group: { id: string; label: string };
  stage: "teacher" | "before" | "after";
  method: string | null;
  /** What stays, as the recipe says it ("62.5 %", "12 experts", "4 bits"); null for a teacher. */
  keep: string | null;
  parametersTotal: number;
  bytes: number;
  klToTeacher: number | null;
  nllPerToken: number;
  /** Half widths of the 95 % intervals; null where there is none, as of one document. */
  klHalfWidth: number | null;
  nllHalfWidth: number | null;
  tokensPerSecond: number | null;
  peakMemoryBytes: number | null;
  /** Bytes, and time of the layers a token, over those of the teacher that was measured beside it. */
  sizeRatio?: number | null;
  timeRatio?: number | null;
  latencyRatio?: number | null;
}

/** One expert (router row) of one layer: what a profile and the plan know of it. */
export interface ExpertPanelData {
  layer: number;
  expert: number;
  numExperts: number;
  /** Tokens of the layer, and those routed to the expert. */
  tokens: number;
  routed: number;
  /** Over the tokens routed to it; null where there are none, or where nobody recorded it. */
  meanRoutingWeight: number | null;
  domains: { name: string; tokens: number; routed: number }[];
  /** What each method that scores by a profile says, and which place that is in the layer: 1 stays longest. */
  scores: { method: string; score: number | null; place: number | null; of: number }[];
  /** What the run's plan does with it, and why; null without a plan. */
  fate: { dropped: boolean; text: string } | null;
  /** Tokens with its largest routing weights; null where the profile kept none. */
  top: ExpertToken[] | null;
  /** Its row of similarity, by metric that the profile holds. */
  similar: { metric: SimilarityMetric; values: (number | null)[] }[];
}

export interface ExpertToken {
  /** In the text, counted from 0 over all sequences. */
  position: number;
  sequence: number;
  domain: string;
  weight: number;
  before: string;
  token: string;
  after: string;
}

/** Text page: what one layer did with the first tokens of the profiled text. */
export interface TextPanelData {
  layers: number[];
  layer: number;
  numExperts: number;
  numExpertsPerToken: number;
  sequenceLength: number;
  /** [T] text of each token. */
  tokens: string[];
  /** [T, k] selected experts, the largest routing weight first; -1: padding. */
  experts: number[];
  /** [T, k] */
  weights: number[];
  /** [T] entropy of the routing distribution, nats. */
  entropy: number[];
  /** The other text, on which the students were measured; null before they are. */
  evaluated: EvaluatedText | null;
}

/** The first tokens of the evaluated text, and how well the students predict them. */
export interface EvaluatedText {
  sequenceLength: number;
  /** [T] text of each token; "" is padding. */
  tokens: string[];
  before: EvaluatedTokens | null;
  after: EvaluatedTokens | null;
}

/** [T] nats, of the prediction of each token; null where nothing predicts it. */
export interface EvaluatedTokens {
  nll: (number | null)[];
  kl: (number | null)[] | null;
}

/** Distillation page: the figures that a run's or comparison's distillation.json holds, in the order of the paper. */
export interface DistillationPanelData {
  figures: DistillationFigure[];
}

export interface DistillationFigure {
  title: string;
  xAxis: string;
  yAxis: string;
  series: { name: string; points: { x: number; y: number; halfWidth95: number | null }[] }[];
  /** Names of the x values 0, 1, ... where those are no numbers; then `rows` is the table. */
  rows: { head: string[]; cells: string[][] } | null;
}

/** Plan page: what a compression-plan.json does to each layer. */
export interface PlanView {
  method: string;
  paradigm: string;
  /** Name of the checkpoint that it is shown against; null where none is known, and nothing can be edited. */
  checkpoint: string | null;
  /** Why the plan cannot be applied to that checkpoint; null: it can. */
  problem: string | null;
  /** Parameters and bytes of the checkpoint, and of what the plan gives, from shapes; null where that is not known. */
  sizes: { whole: PlanSize; planned: PlanSize | null } | null;
  /** Decoder layer numbers, top row first. */
  layers: number[];
  maps: PlanMap[];
  amounts: PlanAmount[];
  /** Pruning plans: whether layers may keep different numbers of experts. */
  counts: "uniform" | "by-layer" | null;
  /** What a click on a cell does: drops or keeps an expert, gives it other bits, or opens its merge group. */
  click: "keep" | "bits" | "group" | null;
  /** Merging plans: groups by layer, in the order of `layers`. */
  groups: { members: number[]; dominant: number }[][];
  notes: string[];
}

export interface PlanSize {
  parameters: number;
  bytes: number;
}

/** One way to colour a plan. */
export interface PlanMap {
  id: string;
  label: string;
  quantity: string;
  columnTitle: string;
  columns: string[];
  /** Layers x columns, row-major. */
  values: (number | null)[];
  nullMeaning: string | null;
  /** Cells that are crossed out, by their place in `values`, and what that means. */
  crossed: number[];
  crossedMeaning: string;
}

/** A number of the plan that can be dragged: of one layer, or null of all of them. */
export interface PlanAmount {
  layer: number | null;
  /** Which of the layer's, where it has several (ranks of projections). */
  name: string;
  value: number;
  min: number;
  max: number;
  step: number;
  /** The only values there are. */
  choices: number[] | null;
  /** "80 of 128 experts". */
  text: string;
}

/** An edit of a plan. */
export type PlanEdit =
  /** Drops a kept expert or keeps a dropped one; gives an expert or its layer the next number of bits. */
  | { kind: "expert"; layer: number; expert: number }
  /** Moves an expert to the merge group of another, or (null) to a group of its own. */
  | { kind: "regroup"; layer: number; expert: number; to: number | null }
  | { kind: "amount"; layer: number | null; name: string; value: number }
  | { kind: "counts"; value: "uniform" | "by-layer" };

/** Runs tree and Overview. */
export interface RunSummary {
  directory: string;
  id: string;
  name: string;
  createdAt: string;
  state: "pending" | "running" | "done" | "failed" | "cancelled" | "interrupted";
  /** `name`: of a pipeline's stage, with its step. */
  stages: { id: string; name?: string; state: string; seconds: number }[];
  /** Of a pipeline: what each step that is measured left. */
  steps?: { name: string; parameters: number; bytes: number; klToTeacher: number | null; klHalfWidth: number | null }[];
  error: { code: string; message: string } | null;
  /** Folder that the recipe's relative paths, the next two among them, start from. */
  baseFolder: string;
  teacher: string;
  output: string;
  method: string | null;
  verdict: string | null;
  klBefore: number | null;
  klAfter: number | null;
  /** What graphs run on, once the run has begun. */
  provider?: string;
  tags: string[];
}
