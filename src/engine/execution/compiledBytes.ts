import { gatedDeltaChunks } from "../graph/blocks/gatedDelta";
import type { AttentionDescription, LayerDescription, ModelDescription } from "../model/description";

/** Kernels and bookkeeping of a node (measured: 3 to 7 kB). */
export const bytesPerNode = 6000;

type Direction = "forward" | "backward";

/** Compiled graphs of all layers. */
export function compiledBytes({ layers }: ModelDescription, direction: Direction, sequenceLength: number): number {
  return layers.reduce((sum, layer) => sum + compiledLayerBytes(layer, direction, sequenceLength), 0);
}

/**
 * Compiled graphs of one layer, those of a profile or of an update; nodes as counted on graphs of 8 to 256 experts of
 * several families, attention's included.
 */
export function compiledLayerBytes(
  { attention, feedForward }: LayerDescription,
  direction: Direction,
  sequenceLength: number,
): number {
  const experts = feedForward.kind === "moe" ? feedForward.numExperts : 1;
  const nodes = direction === "backward" ? 335 + 34 * experts : 124 + 18 * experts;
  return bytesPerNode * (nodes + moreNodes(attention, direction, sequenceLength));
}

/** What linear attention has beyond attention that compares positions, whose nodes hardly depend on the sequence. */
function moreNodes({ kind }: AttentionDescription, direction: Direction, sequenceLength: number): number {
  const isForward = direction === "forward";
  switch (kind) {
    case "gated-delta": {
      const chunks = gatedDeltaChunks(sequenceLength);
      return isForward ? 37 + 6 * chunks : 159 + 27 * chunks;
    }
    case "short-conv":
      return isForward ? -49 : -202;
    case "grouped-query":
    case "latent":
      return 0;
  }
}
