import type { LayerDescription } from "../model/description";
import type { HiddenStates } from "./hiddenStates";
import type { RoutingObserver } from "./observer";
import type { Tape } from "./tape";

/** Gradients of what is added to the loss, asked for chunk by chunk, from the last layer down. All are [tokens, hidden]. */
export interface FeedForwardTerms {
  /** In what the half adds to the residual stream, for the tokens [from, to); null where it has no part. */
  inAdded: (layer: number, from: number, to: number) => Float32Array | null;
  /** In what the half reads; null where it has no part. Adds to the gradients of weights by itself. */
  inInput: (
    layer: LayerDescription,
    firstToken: number,
    feedForwardInput: Float32Array,
    gradients: ReadonlyMap<string, Float32Array>,
  ) => Promise<Float32Array | null>;
}

/** Sequences of token ids, one after another, all of the executor's length. */
export interface TokenBatch {
  ids: Int32Array;
  /** 1 for tokens that count, 0 for padding; absent: all count. */
  valid?: Uint8Array;
}

export interface ForwardOptions {
  observer?: RoutingObserver;
  /** Also report norms, maxima and sums of every expert's outputs. */
  collectOutputs?: boolean;
  /** Keeps what backward needs. */
  tape?: Tape;
  /** Attention then runs twice a layer: for this, and with the router that this leaves. */
  routerFit?: RouterFit;
  signal?: AbortSignal | undefined;
  /** Called after each layer of each chunk with the tokens of that chunk. */
  onChunk?: (tokens: number) => void;
  /** Goes on behind this many layers, whose output `hidden` is, instead of beginning with the embedding; closes it. */
  start?: { layers: number; hidden: HiddenStates };
  /** Ends behind this many layers, with their output. */
  end?: number;
  /** Called after each layer, with the number of layers done and their output. */
  onLayer?: (layers: number, hidden: HiddenStates) => Promise<void>;
  /** Called for each chunk of each layer with its residual stream before and behind the feed-forward half, [tokens, hidden]. */
  onFeedForward?: (layer: number, firstToken: number, residual: Float32Array, output: Float32Array) => void;
}

export interface BackwardOptions extends Pick<ForwardOptions, "signal" | "onChunk"> {
  /**
   * Adds to the loss a function of a layer's router logits [tokens, logits]: its gradient in them, of the same shape.
   * Asked for layer by layer, from the last one down.
   */
  routerLogitGradient?: (layer: number, routerLogits: Float32Array) => Promise<Float32Array>;
  /** Called for each chunk of each layer, from the last layer down to the lowest with experts. */
  layerGradient?: (gradient: LayerGradient) => Promise<void>;
  /** Adds to the loss functions of a layer's feed-forward half. */
  terms?: FeedForwardTerms;
}

/** The gradient of the loss in what a layer gives, for a chunk of tokens, with what its feed-forward half read there. */
export interface LayerGradient {
  layer: LayerDescription;
  /** Index of the chunk's first token in the batch. */
  firstToken: number;
  /** [tokens, hidden] */
  dHidden: Float32Array;
  feedForwardInput: Float32Array;
  /** [tokens, logits] and [tokens, k]; empty in a dense layer. */
  routerLogits: Float32Array;
  selectedIds: Int32Array;
}

/** Sees what a layer's router sees before it routes, and may then change the router in the executor's parameters. */
export interface RouterFit {
  add: (layer: number, firstToken: number, feedForwardInput: Float32Array, routerLogits: Float32Array) => Promise<void>;
  /** Called once all tokens of the layer were added. */
  fit: (layer: number) => Promise<void>;
}
