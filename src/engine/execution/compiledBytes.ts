import type { LayerDescription, ModelDescription } from "../model/description";

/** Kernels and bookkeeping of a node (measured: 3 to 7 kB). */
export const bytesPerNode = 6000;

/** Compiled graphs of all layers. */
export function compiledBytes({ layers }: ModelDescription, direction: "forward" | "backward"): number {
  return layers.reduce((sum, layer) => sum + compiledLayerBytes(layer, direction), 0);
}

/**
 * Compiled graphs of one layer, those of a profile or of an update; nodes as counted on graphs of 8 to 256 experts of
 * several families, attention's included.
 */
export function compiledLayerBytes({ feedForward }: LayerDescription, direction: "forward" | "backward"): number {
  const experts = feedForward.kind === "moe" ? feedForward.numExperts : 1;
  return bytesPerNode * (direction === "backward" ? 430 + 36 * experts : 140 + 19 * experts);
}
