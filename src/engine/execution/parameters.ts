import type { Checkpoint } from "../checkpoint/checkpoint";
import { readFloat32 } from "../checkpoint/read";
import { weightKey } from "../graph/blocks/weights";
import type { ModelDescription, WeightView } from "../model/description";
import type { Tensor } from "../runtime/session";
import { elementCount } from "../tensor/dtype";
import { moeLayers } from "./moeLayers";
import { float32, floats } from "./tensors";
import { viewOfKey } from "./weightViews";

/** Weights that are fed at every run instead of read from the checkpoint: routers, and whatever else trains. */
export class Parameters {
  readonly #shapes: Map<string, readonly number[]>;

  /** @param values f32 by key; a caller that trains replaces contents or entries */
  constructor(
    readonly values: Map<string, Float32Array>,
    description: ModelDescription,
  ) {
    this.#shapes = new Map([...values.keys()].map((key) => [key, viewOfKey(description, key).shape]));
  }

  static async read(
    checkpoint: Checkpoint,
    description: ModelDescription,
    trainable: Iterable<string>,
  ): Promise<Parameters> {
    const routers = moeLayers(description).map(([, { router }]) => router.weight);
    const views = new Map(routers.map((view) => [weightKey(view), view]));
    for (const key of trainable) views.set(key, viewOfKey(description, key));
    const values = new Map<string, Float32Array>();
    for (const [key, view] of views) values.set(key, await readView(checkpoint, view));
    return new Parameters(values, description);
  }

  /** Graph inputs `weight:<key>`. */
  feeds(): Record<string, Tensor> {
    return Object.fromEntries(
      [...this.values].map(([key, data]) => [`weight:${key}`, float32(data, this.#shapes.get(key)!)]),
    );
  }

  zeros(): Map<string, Float32Array> {
    return new Map([...this.values].map(([key, { length }]) => [key, new Float32Array(length)]));
  }
}

/** Adds the outputs `gradient:<key>` of a backward graph to running sums. */
export function addGradients(outputs: Record<string, Tensor>, sums: ReadonlyMap<string, Float32Array>): void {
  for (const [key, sum] of sums) {
    const part = outputs[`gradient:${key}`];
    if (part === undefined) continue;
    const values = floats(part);
    for (let i = 0; i < values.length; i++) sum[i]! += values[i]!;
  }
}

/** The view's elements as f32: for small tensors such as routers and biases. */
export function readView(checkpoint: Checkpoint, { tensor, offset, shape }: WeightView): Promise<Float32Array> {
  return readFloat32(checkpoint.tensors.get(tensor)!, { offset, count: elementCount(shape) });
}
