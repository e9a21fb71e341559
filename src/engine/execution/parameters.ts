import type { Checkpoint } from "../checkpoint/checkpoint";
import { readFloat32 } from "../checkpoint/read";
import { weightKey } from "../graph/blocks/weights";
import type { ModelDescription, WeightView } from "../model/description";
import type { Tensor } from "../runtime/session";
import { elementCount } from "../tensor/dtype";
import { moeLayers } from "../model/moeLayers";
import { float32, floats } from "./tensors";
import { viewsByKey } from "./weightViews";

/** Weights that are fed at every run instead of read from the checkpoint: routers, and whatever else trains. */
export class Parameters {
  readonly #shapes: Map<string, readonly number[]>;
  readonly #keysOf = new Map<string, string[]>();

  /** @param values f32 by key; a caller that trains replaces contents or entries */
  constructor(
    readonly values: Map<string, Float32Array>,
    description: ModelDescription,
  ) {
    const views = viewsByKey(description);
    this.#shapes = new Map([...values.keys()].map((key) => [key, shapeOf(views, key)]));
  }

  static async read(
    checkpoint: Checkpoint,
    description: ModelDescription,
    trainable: Iterable<string>,
  ): Promise<Parameters> {
    const routers = moeLayers(description).map(({ moe: { router } }) => router.weight);
    const views = new Map(routers.map((view) => [weightKey(view), view]));
    const all = viewsByKey(description);
    for (const key of trainable) {
      const view = all.get(key);
      if (view === undefined) throw new Error(`the model has no trainable weight ${key}`);
      views.set(key, view);
    }
    const values = new Map<string, Float32Array>();
    for (const [key, view] of views) values.set(key, await readView(checkpoint, view));
    return new Parameters(values, description);
  }

  /**
   * Graph inputs `weight:<key>` for the trained weights among some views.
   * @param block names the views, so that they are looked through once
   */
  feeds(block: string, views: () => readonly WeightView[]): Record<string, Tensor> {
    let keys = this.#keysOf.get(block);
    if (keys === undefined) {
      keys = views()
        .map(weightKey)
        .filter((key) => this.values.has(key));
      this.#keysOf.set(block, keys);
    }
    return Object.fromEntries(
      keys.map((key) => [`weight:${key}`, float32(this.values.get(key)!, this.#shapes.get(key)!)]),
    );
  }

  zeros(): Map<string, Float32Array> {
    return new Map([...this.values].map(([key, { length }]) => [key, new Float32Array(length)]));
  }
}

function shapeOf(views: ReadonlyMap<string, WeightView>, key: string): readonly number[] {
  const view = views.get(key);
  if (view === undefined) throw new Error(`the model has no trainable weight ${key}`);
  return view.shape;
}

/** Adds the outputs `gradient:<key>` of a backward graph to running sums. */
export function addGradients(outputs: Record<string, Tensor>, sums: ReadonlyMap<string, Float32Array>): void {
  for (const [name, part] of Object.entries(outputs)) {
    if (!name.startsWith(gradientPrefix)) continue;
    const sum = sums.get(name.slice(gradientPrefix.length))!;
    const values = floats(part);
    for (let i = 0; i < values.length; i++) sum[i]! += values[i]!;
  }
}

const gradientPrefix = "gradient:";

/** Numbers that the selection of some families adds to its scores, [numExperts] by layer. */
export async function readCorrectionBiases(
  checkpoint: Checkpoint,
  description: ModelDescription,
): Promise<Map<number, Float32Array>> {
  const biases = new Map<number, Float32Array>();
  for (const {
    layer: index,
    moe: { router },
  } of moeLayers(description)) {
    if (router.correctionBias !== null) biases.set(index, await readView(checkpoint, router.correctionBias));
  }
  return biases;
}

/** The view's elements as f32: for small tensors such as routers and biases. */
export function readView(checkpoint: Checkpoint, { tensor, offset, shape }: WeightView): Promise<Float32Array> {
  return readFloat32(checkpoint.tensors.get(tensor)!, { offset, count: elementCount(shape) });
}
