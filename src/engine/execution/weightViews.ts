import { weightKey } from "../graph/blocks/weights";
import type {
  ExpertWeights,
  LayerDescription,
  ModelDescription,
  MoeDescription,
  WeightView,
} from "../model/description";
import { decodedNumbers, trainableView } from "../weights/forms";

/** Every weight view of the attention half of a layer, the router included. */
export function attentionViews(layer: LayerDescription): WeightView[] {
  const { inputNorm, attention, attentionOutputNorm, postAttentionNorm, feedForward } = layer;
  const router =
    feedForward.kind === "moe"
      ? [feedForward.router.weight, feedForward.router.bias, ...viewsIn(feedForward.router.input)]
      : [];
  return [
    ...viewsIn([inputNorm, attention, attentionOutputNorm, postAttentionNorm]),
    ...router.filter((view) => view !== null),
  ];
}

/** Every weight view of the feed-forward half: experts, shared experts or the dense MLP, and what follows them. */
export function feedForwardViews({ feedForward, feedForwardOutputNorm, scalar }: LayerDescription): WeightView[] {
  const views =
    feedForward.kind === "mlp"
      ? viewsIn(feedForward.weights)
      : [
          ...viewsOfExperts(feedForward.experts),
          ...sharedExpertViews(feedForward),
          ...viewsIn(feedForward.router.expertScale),
        ];
  return [...views, ...viewsIn([feedForwardOutputNorm, scalar])];
}

export function viewsOfExperts(experts: readonly ExpertWeights[]): WeightView[] {
  return viewsIn(experts);
}

/** Shared experts and the norm of the routed ones' sum. */
export function sharedExpertViews({ shared, routedNorm }: Pick<MoeDescription, "shared" | "routedNorm">): WeightView[] {
  return viewsIn([shared, routedNorm]);
}

/** Whether anything of the attention half but the router is among the given keys. */
export function attentionTrains(layer: LayerDescription, keys: ReadonlySet<string>): boolean {
  const router = layer.feedForward.kind === "moe" ? weightKey(layer.feedForward.router.weight) : null;
  return attentionViews(layer).some((view) => weightKey(view) !== router && keys.has(weightKey(view)));
}

/** Every weight view of a model that may train by its key; a tied head and its embedding are one. */
export function viewsByKey(description: ModelDescription): Map<string, WeightView> {
  const { embedding, finalNorm, head, layers } = description;
  const views = [
    embedding.weight,
    ...layers.flatMap((layer) => [...attentionViews(layer), ...feedForwardViews(layer)]),
    ...headViews({ finalNorm, head }),
  ];
  return new Map(views.map((view) => [weightKey(view), view]));
}

/** Weight views of the final norm and the vocabulary head. */
export function headViews({ finalNorm, head }: Pick<ModelDescription, "finalNorm" | "head">): WeightView[] {
  return viewsIn([finalNorm, head.weight, head.bias]);
}

/** Numbers in each weight of a layer once it is decoded, quantised ones included: what memory plans count. */
export function decodedSizes(layer: LayerDescription): number[] {
  return allViewsIn(layer).map(decodedNumbers);
}

/** The weight views inside a description that may train, whatever its shape: of quantised ones their scales. */
export function viewsIn(part: unknown): WeightView[] {
  return allViewsIn(part).flatMap((view) => trainableView(view) ?? []);
}

/**
 * The weight views inside a description, whatever its shape; a quantised one stands for its scales and factors. Those of an
 * index branch are left out: no graph has them.
 */
export function allViewsIn(part: unknown): WeightView[] {
  if (typeof part !== "object" || part === null) return [];
  if (isView(part)) return [part];
  return Object.entries(part).flatMap(([key, value]) => (key === "indexer" ? [] : allViewsIn(value)));
}

function isView(part: object): part is WeightView {
  return "tensor" in part && "offset" in part && "shape" in part;
}
