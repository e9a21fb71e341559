import type { LayerDescription } from "../model/description";

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
