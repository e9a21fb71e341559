import type { Tensor } from "../runtime/session";
import type { Assignment } from "./assignment";

/** What a chunk of T tokens brings to a layer's experts. Keys of `weights` are those of the trained weights' graph inputs. */
export interface RoutedChunk {
  feedForwardInput: Float32Array;
  /** [T, logits] */
  routerLogits: Float32Array;
  /** [T, k] */
  selectedIds: Int32Array;
  /** [T, own k] what the family's own rule selects, where the routing keeps its mass. */
  ownIds?: Int32Array | undefined;
  assignment: Assignment;
  weights: Readonly<Record<string, Tensor>>;
  /** [T, H], for the backward pass of layers whose shared experts read it. */
  residual?: Float32Array | undefined;
}

/** Rows of experts that no routing chose: token `tokenOfRow[r]` at the expert whose rows `firstRow` counts, as in Assignment. */
export interface ChosenRows {
  /** [T, H] */
  feedForwardInput: Float32Array;
  assignment: Pick<Assignment, "tokenOfRow" | "firstRow">;
}

/** Gradients in what a layer's feed-forward half reads; null where not needed, or where dResidual is dHidden. */
export interface InputGradients {
  dFeedForwardInput: Float32Array | null;
  dRouterLogits: Float32Array | null;
  dResidual: Float32Array | null;
}

/** What profiling looks at of the experts' rows, without their weights: [R] each, [E, H] the sums over a leaf's valid rows so far. */
export interface ObservedRows {
  norms: Float32Array;
  maxima: Float32Array;
  absoluteMaxima: Float32Array;
  sums: Float32Array;
}

export interface RoutedOutput {
  /** [T, H] */
  hidden: Float32Array;
  /** [T, k] */
  routingWeights: Float32Array;
  /** [R, H], the experts' weighted outputs; valid until the next call. */
  rows: Float32Array;
  /** With the cosine of expertGraphs.ts, [T]; null unless it was asked for. */
  observed: (ObservedRows & { inputOutputCosine: Float32Array }) | null;
}
