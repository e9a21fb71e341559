import type { ModelDescription, MoeDescription } from "./description";

/** The layers with a router, in order: their index and their MoE block. */
export function moeLayers(description: ModelDescription): { layer: number; moe: MoeDescription }[] {
  return description.layers.flatMap(({ index, feedForward }) =>
    feedForward.kind === "moe" ? [{ layer: index, moe: feedForward }] : [],
  );
}

/** Router logits a token: more than the experts that exist where a merged checkpoint keeps all router rows. */
export function numLogits(moe: MoeDescription): number {
  return moe.logicalToPhysical?.length ?? moe.numExperts;
}
