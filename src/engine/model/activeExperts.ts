import { RerouteError } from "../../protocol/errors";
import type { ModelDescription, MoeDescription, RoutingDescription } from "./description";

/**
 * The model with another number of active experts in every sparse layer: each token goes to the `active` experts of largest
 * selection score, correction biases included, and a limit to groups is lifted. Weights follow the family's rule. Where that
 * leaves scores as they are, the routed mass would grow with the experts; `mass: "keep"` multiplies them per token by
 * (sum over the family's own top-k) / (sum over the active ones), so that the layer's output keeps the size that the layers
 * above were trained on. With the family's own number, and no group limit, it is the same description.
 *
 * Of a merged checkpoint with a logical map, experts are its logical ones.
 * @throws RerouteError arguments/invalid where a layer has fewer experts; model/unsupported-option where its routing takes
 *   no other number (SparseMixer)
 */
export function withActiveExperts(
  description: ModelDescription,
  active: number,
  mass: "keep" | "family" = "keep",
): ModelDescription {
  return {
    ...description,
    layers: description.layers.map((layer) => {
      const { feedForward, index } = layer;
      if (feedForward.kind !== "moe") return layer;
      return { ...layer, feedForward: withActive(description.family, index, feedForward, active, mass) };
    }),
  };
}

/** The most experts that can be active in every layer; null without one. */
export function mostActiveExperts({ layers }: ModelDescription): number | null {
  const counts = layers.flatMap(({ feedForward }) =>
    feedForward.kind === "moe" ? [feedForward.router.weight.shape[0]!] : [],
  );
  return counts.length === 0 ? null : Math.min(...counts);
}

/** Powers of two, the family's own, all but one and all; its own alone where it takes no other. */
export function usualActiveExperts(description: ModelDescription): number[] {
  const moe = description.layers.flatMap(({ feedForward }) => (feedForward.kind === "moe" ? [feedForward] : []))[0]!;
  const own = moe.numExpertsPerToken;
  if (moe.routing.kind === "sparse-mixer") return [own];
  const most = mostActiveExperts(description)!;
  const powers = Array.from({ length: Math.ceil(Math.log2(most)) }, (_, i) => 2 ** i);
  return [...new Set([...powers, own, Math.max(1, most - 1), most])].sort((a, b) => a - b);
}

function withActive(
  family: string,
  layer: number,
  moe: MoeDescription,
  active: number,
  mass: "keep" | "family",
): MoeDescription {
  const { routing, numExpertsPerToken } = moe;
  const experts = moe.router.weight.shape[0]!;
  if (!Number.isSafeInteger(active) || active < 1 || active > experts) {
    throw new RerouteError(
      "arguments/invalid",
      `${active} active experts were asked for, but layer ${layer} of this ${family} checkpoint has ${experts}; choose from 1 to ${experts}`,
    );
  }
  if (routing.kind === "sparse-mixer") {
    if (active === numExpertsPerToken) return moe;
    throw new RerouteError(
      "model/unsupported-option",
      `${active} active experts were asked for, but SparseMixer in layer ${layer} of this ${family} checkpoint takes two steps, one for each of its ${numExpertsPerToken} experts, and has no meaning for another number; use its own routing`,
    );
  }
  if (active === numExpertsPerToken && routing.groups === null) return moe;
  return { ...moe, numExpertsPerToken: active, routing: lifted(routing, numExpertsPerToken, mass) };
}

function lifted(
  routing: Exclude<RoutingDescription, { kind: "sparse-mixer" }>,
  numExpertsPerToken: number,
  mass: "keep" | "family",
): RoutingDescription {
  // A softmax over the selected sums to 1 as it is.
  const sumsToOne = routing.renormalise || (routing.kind === "softmax" && routing.softmax === "after");
  const { groups } = routing;
  return {
    ...routing,
    groups: null,
    ...(mass === "keep" && !sumsToOne ? { keepsMass: { numExpertsPerToken, groups } } : {}),
  };
}
