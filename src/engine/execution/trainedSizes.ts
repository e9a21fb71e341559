import { weightKey } from "../graph/blocks/weights";
import type { ModelDescription, WeightView } from "../model/description";
import { elementCount } from "../tensor/dtype";
import type { TrainedSizes } from "./workingSet";
import { moeLayers } from "../model/moeLayers";
import { attentionViews, feedForwardViews, headViews, viewsByKey } from "./weightViews";

/** How much trains of a model, for its memory plan; undefined where nothing but routers does. */
export function trainedSizes(description: ModelDescription, keys: ReadonlySet<string>): TrainedSizes | undefined {
  const routers = new Set(moeLayers(description).map(({ moe: { router } }) => weightKey(router.weight)));
  if ([...keys].every((key) => routers.has(key))) return undefined;
  const trains = (view: WeightView) => keys.has(weightKey(view)) || routers.has(weightKey(view));
  const sum = (views: readonly WeightView[]) =>
    views.reduce((total, view) => total + (trains(view) ? elementCount(view.shape) : 0), 0);
  return {
    total: sum([...viewsByKey(description).values()]),
    largestBlock: description.layers.reduce(
      (most, layer) => Math.max(most, sum(attentionViews(layer)), sum(feedForwardViews(layer))),
      0,
    ),
    head: sum(headViews(description)),
  };
}
