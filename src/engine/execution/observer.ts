import type { HiddenStates } from "./hiddenStates";

/** What one MoE layer did with one chunk of tokens. Arrays are row-major and valid only during the call. */
export interface MoeObservation {
  /** Decoder layer number. */
  layer: number;
  numTokens: number;
  /** Router logits a token. Selected ids count router rows. */
  numRouterRows: number;
  /** Experts that exist: fewer than router rows where merged experts share one. */
  numExperts: number;
  /** [numRouterRows]: the expert of each router row; absent where row e is expert e. */
  expertOfRow?: readonly number[];
  numExpertsPerToken: number;
  hiddenSize: number;
  /** Index of the chunk's first token in the batch, counting sequence after sequence, padding included. */
  firstToken: number;
  /** [numTokens, numRouterRows] */
  routerLogits: Float32Array;
  /** [numTokens, numExpertsPerToken] router rows, ascending in each token. */
  selectedIds: Int32Array;
  /** [numTokens, numExpertsPerToken]: the number that multiplies each selected expert's output (or input). */
  routingWeights: Float32Array;
  /** The weights multiply the experts' inputs: outputs come with them. */
  weightsInput?: true;
  /** Present when the forward pass was asked for expert outputs. */
  outputs: ExpertOutputObservation | null;
  /** [numTokens, hiddenSize]: what router and experts see, after the norm. The executor always gives it. */
  feedForwardInput?: Float32Array;
  /**
   * Outputs of the selected experts, routing weights included, [numTokens * k, hiddenSize] in the order of the experts, and
   * the row of each (token, slot). The executor always gives it.
   */
  weightedRows?: { rows: Float32Array; rowOfSlot: Int32Array };
}

export interface ExpertOutputObservation {
  /** [numTokens, k]: L2 norm of f_e(x), without the routing weight; of f_e(weight * x) where it goes to the input. */
  norms: Float32Array;
  /** [numTokens, k]: largest channel of f_e(x), signed. */
  maxima: Float32Array;
  /** [numTokens, k]: largest absolute channel of f_e(x). */
  absoluteMaxima: Float32Array;
  /**
   * [numExperts, hidden]: sum of f_e(x) over the valid tokens routed to expert e, by whichever row, of this chunk and those
   * before it in its leaf (leaves.ts).
   */
  sums: Float32Array;
  /** [numTokens]: cos(x, x + y), x the hidden state before the block and y what the routed experts add to it (EASY-EP). */
  inputOutputCosine: Float32Array;
}

/** Observers that each see everything, one after the other. */
export function observedByAll(observers: readonly RoutingObserver[]): RoutingObserver {
  const after = observers.filter(({ afterLayer }) => afterLayer !== undefined);
  return {
    ...(observers.every(({ readsRoutingOnly }) => readsRoutingOnly) ? { readsRoutingOnly: true } : {}),
    observe: (observation) => {
      for (const observer of observers) observer.observe(observation);
    },
    ...(after.length === 0
      ? {}
      : {
          afterLayer: async (layer, hidden) => {
            for (const observer of after) await observer.afterLayer!(layer, hidden);
          },
        }),
  };
}

/** Receives observations layer by layer; within a layer, chunk by chunk in token order. */
export interface RoutingObserver {
  /** It reads neither `feedForwardInput` nor `weightedRows`, so that parts of a batch may be looked at elsewhere. */
  readonly readsRoutingOnly?: true;
  observe: (observation: MoeObservation) => void;
  /**
   * Called once all tokens went through an MoE layer and before the next layer is touched; may rewrite the layer's
   * outputs, which the next layer then sees.
   */
  afterLayer?: (layer: number, hidden: HiddenStates) => Promise<void>;
}
