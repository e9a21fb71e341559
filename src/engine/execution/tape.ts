import type { HiddenStates } from "./hiddenStates";

/** The inputs of one layer's blocks. */
export interface LayerTape {
  x: HiddenStates;
  feedForwardInput: HiddenStates;
  /** Behind attention; null where the feed-forward half only adds to it. */
  residual: HiddenStates | null;
  /** [tokens, router logits], from which the selection follows; null for a dense layer. */
  routerLogits: HiddenStates | null;
}

/** What a forward pass leaves for the backward pass: block inputs only, everything else is computed again. */
export class Tape {
  readonly layers = new Map<number, LayerTape>();
  /** Token ids of the batch: where the embedding's gradient goes. */
  ids: Int32Array = new Int32Array(0);

  close(): void {
    for (const { x, feedForwardInput, residual, routerLogits } of this.layers.values()) {
      x.close();
      feedForwardInput.close();
      residual?.close();
      routerLogits?.close();
    }
    this.layers.clear();
  }
}
