import type { ModelDescription } from "../model/description";
import type { Config } from "../model/config";
import { keepsZeros } from "../model/keptZeros";
import { weightKey } from "../graph/blocks/weights";
import type { TrainableWeight } from "./scope";

/**
 * Keys of the matrices whose zeros are to stay, because a compression made them (model/keptZeros). With a gradient of zero
 * AdamW leaves a zero as it is, weight decay included, so nothing but the weights themselves says where they are.
 */
export function weightsWithZeros(
  weights: readonly TrainableWeight[],
  { checkpoint, description }: { checkpoint: { config: Config }; description: ModelDescription },
): Set<string> {
  const [experts, routers] = [keepsZeros(checkpoint.config, "experts"), keepsZeros(checkpoint.config, "routers")];
  const routerKeys = new Set(
    description.layers.flatMap(({ feedForward }) =>
      feedForward.kind === "moe" ? [weightKey(feedForward.router.weight)] : [],
    ),
  );
  const keeps = ({ key, view, expert }: TrainableWeight) =>
    (experts && expert !== null && view.shape.length > 1) || (routers && routerKeys.has(key));
  return new Set(weights.filter(keeps).map(({ key }) => key));
}

/** Takes the gradient from every weight that is zero. */
export function freezeZeros(
  gradients: ReadonlyMap<string, Float32Array>,
  parameters: ReadonlyMap<string, Float32Array>,
  keys: ReadonlySet<string>,
): void {
  for (const key of keys) {
    const [gradient, weights] = [gradients.get(key)!, parameters.get(key)!];
    for (let i = 0; i < weights.length; i++) if (weights[i] === 0) gradient[i] = 0;
  }
}

/** Remembers where the weights of some keys are zero; the function returned makes them zero there again. */
export function rememberZeros(parameters: ReadonlyMap<string, Float32Array>, keys: ReadonlySet<string>): () => void {
  const zeros = [...keys].map((key) => {
    const weights = parameters.get(key)!;
    return { weights, at: Uint32Array.from(weights.keys()).filter((i) => weights[i] === 0) };
  });
  return () => {
    for (const { weights, at } of zeros) for (const i of at) weights[i] = 0;
  };
}
