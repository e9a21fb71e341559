import type { LayerDescription, ModelDescription, MoeDescription } from "../model/description";

/** Layers with a router, and their MoE block. */
export function moeLayers(description: ModelDescription): [LayerDescription, MoeDescription][] {
  return description.layers.flatMap((layer): [LayerDescription, MoeDescription][] =>
    layer.feedForward.kind === "moe" ? [[layer, layer.feedForward]] : [],
  );
}

/** Router logits a token: more than the experts that exist where a merged checkpoint keeps all router rows. */
export function numLogits(moe: MoeDescription): number {
  return moe.logicalToPhysical?.length ?? moe.numExperts;
}
