import type { CompressionPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";

/** What a method answers about itself from shapes alone, before any work. */
export interface MethodForecast {
  /** How often it runs calibration text through the whole model, and how many sequences where its options name none. */
  passes: (options: CompressOptions["options"], description: ModelDescription) => number;
  sequences: number;
  /** What it does with one layer, beyond profiling and writing. */
  layer: (shape: LayerCostShape, options: CompressOptions["options"]) => LayerCost;
  /** Options under which it holds less at once, the mildest change first: what a refusal for memory names. */
  lighter?: readonly CompressOptions["options"][];
  /** Whether its work has rounds of subspace iterations, whose rate is measured only then. */
  iteratesSubspaces?: boolean;
  /**
   * A plan like the one it will make: the same number of experts, router rows and ranks, whichever they are.
   * @throws RerouteError `plan/invalid` for an impossible `keep`
   */
  anyPlan: (description: ModelDescription, compress: CompressOptions) => CompressionPlan;
}

/** Operations of each kind, and the largest number of bytes held at once. */
export interface LayerCost {
  float32: number;
  float64: number;
  plain: number;
  /** Rounds of subspace iterations on weighted matrices, by operations in their products. */
  subspace: number;
  /** Beyond a streaming pass: bytes of matrices and tables of one layer. */
  workingBytes: number;
}

/** Shape of one layer as methods see it. */
export interface LayerCostShape {
  moe: MoeDescription;
  layer: number;
  /** Experts, hidden and intermediate size, experts a token, experts that stay. */
  K: number;
  H: number;
  I: number;
  k: number;
  kept: number;
  /** Calibration tokens that the method looks at. */
  T: number;
  /** Parameters of one expert. */
  weights: number;
  /** Ranks of an editing method's factors. */
  ranks: Readonly<Record<string, number>>;
}

export const noCost: LayerCost = { float32: 0, float64: 0, plain: 0, subspace: 0, workingBytes: 0 };

/** Plain-code operations to decode, handle and encode one stored number. */
export const touch = 12;
/** Tokens on which the output error of a merged or edited layer is measured, at most. */
const errorTokens = 8192;
/** Operations of the routed output before and after, on those tokens. */
export function outputErrorCost({ k, T, weights }: Pick<LayerCostShape, "k" | "T" | "weights">): number {
  return 2 * k * Math.min(T, errorTokens) * 2 * weights;
}
/** What handing a small product to the engine costs, in plain-code operations. */
export const callOperations = 5e5;

/** Adds operations; of the bytes, the larger stays. */
export function addCost(sum: LayerCost, part: LayerCost): void {
  sum.float32 += part.float32;
  sum.float64 += part.float64;
  sum.plain += part.plain;
  sum.subspace += part.subspace;
  sum.workingBytes = Math.max(sum.workingBytes, part.workingBytes);
}

/** A positive number among a method's options, or what it is without one. */
export function numberOf(options: CompressOptions["options"], name: string, otherwise: number): number {
  const value = options[name];
  return typeof value === "number" && value > 0 ? value : otherwise;
}
