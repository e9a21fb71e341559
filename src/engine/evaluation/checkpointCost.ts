import type { CheckpointCost } from "../../protocol/evaluation";
import type { HeadSource } from "../execution/headGraphs";
import { allViewsIn } from "../execution/weightViews";
import { moeLayers } from "../model/moeLayers";
import { workingSetBytes } from "../execution/workingSet";
import { countParameters, flopsPerToken } from "../model/parameters";
import type { ModelDescription } from "../model/description";
import { companionsOf } from "../weights/forms";

/**
 * What a checkpoint costs to keep and to run, from its headers; measured figures are null until something has been run.
 *
 * @param sequenceLength tokens; operations and activations depend on it
 */
export function costOfCheckpoint({ checkpoint, description }: HeadSource, sequenceLength: number): CheckpointCost {
  const { total, active } = countParameters(description);
  const routed = routedExperts(description);
  const inExperts = total - countParameters(withoutExperts(description)).total;
  return {
    parametersTotal: total,
    parametersActive: active,
    bytes: [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    bitsPerWeight: (8 * storedBytes(checkpoint, description)) / total,
    ...(inExperts > 0 ? { expertBitsPerWeight: (8 * storedBytes(checkpoint, routed)) / inExperts } : {}),
    activationBytes: workingSetBytes(
      { description, sequenceLength, direction: "forward", trained: undefined },
      { attentionSequences: 1, chunkSequences: 1, headPositions: 1 },
    ),
    flopsPerToken: flopsPerToken(description, sequenceLength),
    tokensPerSecond: null,
    tokensPerSecondQuartiles: null,
    peakMemoryBytes: null,
  };
}

/** Stored bytes that a token's forward pass reads: its k of the routed experts, and all else but the embedding's other rows. */
export function bytesReadPerToken({ checkpoint, description }: Pick<HeadSource, "checkpoint" | "description">): number {
  const { embedding, ...rest } = withoutExperts(description);
  const routed = moeLayers(description).reduce((sum, { moe }) => {
    const k = Math.min(moe.numExpertsPerToken, moe.numExperts);
    return sum + (storedBytes(checkpoint, moe.experts) * k) / moe.numExperts;
  }, 0);
  return storedBytes(checkpoint, rest) + storedBytes(checkpoint, embedding) / description.vocabSize + routed;
}

/** Bytes of the tensors that a part of a model is stored in, each once, scales and zero points included; none that nothing reads. */
function storedBytes({ tensors }: HeadSource["checkpoint"], part: unknown): number {
  const views = allViewsIn(part).flatMap((view) => [view, ...companionsOf(view)]);
  const names = new Set(views.map(({ tensor }) => tensor));
  return [...names].reduce((sum, name) => sum + (tensors.get(name)?.byteLength ?? 0), 0);
}

function routedExperts({ layers }: ModelDescription) {
  return layers.map(({ feedForward }) => (feedForward.kind === "moe" ? feedForward.experts : []));
}

/** The same model with routers and no routed expert. */
function withoutExperts(description: ModelDescription): ModelDescription {
  const layers = description.layers.map((layer) =>
    layer.feedForward.kind === "moe" ? { ...layer, feedForward: { ...layer.feedForward, experts: [] } } : layer,
  );
  return { ...description, layers };
}
