import type { HiddenStates } from "./hiddenStates";

/** The inputs of one layer's blocks, and the selection that its gradient is taken for. */
export interface LayerTape {
  x: HiddenStates;
  feedForwardInput: HiddenStates;
  /** [tokens, k]; empty for a dense layer. */
  selectedIds: Int32Array;
  /** [tokens, router logits]; empty for a dense layer. */
  routerLogits: Float32Array;
}

/** What a forward pass leaves for the backward pass: block inputs only, everything else is computed again. */
export class Tape {
  readonly layers = new Map<number, LayerTape>();
  /** Token ids of the batch: where the embedding's gradient goes. */
  ids: Int32Array = new Int32Array(0);

  close(): void {
    for (const { x, feedForwardInput } of this.layers.values()) {
      x.close();
      feedForwardInput.close();
    }
    this.layers.clear();
  }
}
