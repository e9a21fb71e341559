import { RerouteError } from "../../protocol/errors";
import type { ModelDescription, MoeDescription } from "./description";
import { moeLayers } from "./moeLayers";

/**
 * The model as a server runs it that quantises the activations of experts, each token by itself: what gate and up projections
 * read, and what down projections read. Routers, attention and shared experts read what they always do.
 *
 * @throws RerouteError arguments/invalid for a model without experts
 */
export function withRoundedActivations<M extends { description: ModelDescription }>(
  model: M,
  activations: MoeDescription["activations"],
): M {
  if (activations === undefined) return model;
  if (moeLayers(model.description).length === 0)
    throw new RerouteError(
      "arguments/invalid",
      `Activations of experts were to be rounded to ${activations}, but this ${model.description.family} checkpoint has no experts; leave activations out`,
    );
  const layers = model.description.layers.map((layer) =>
    layer.feedForward.kind === "moe" ? { ...layer, feedForward: { ...layer.feedForward, activations } } : layer,
  );
  return { ...model, description: { ...model.description, layers } };
}
