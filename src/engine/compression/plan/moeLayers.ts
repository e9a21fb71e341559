import type { ModelDescription, MoeDescription } from "../../model/description";

/** The sparse layers of a model, in order. */
export function moeLayers(description: ModelDescription): { layer: number; moe: MoeDescription }[] {
  return description.layers.flatMap(({ index, feedForward }) =>
    feedForward.kind === "moe" ? [{ layer: index, moe: feedForward }] : [],
  );
}
