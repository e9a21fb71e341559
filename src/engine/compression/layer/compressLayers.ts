import { throwIfCancelled } from "../../../protocol/errors";
import type { TensorEntry } from "../../checkpoint/checkpoint";
import type { TensorSource } from "../../checkpoint/tensorSource";
import type { CollectedLayer } from "../../execution/collectLayers";
import { MatrixProducts } from "../../linalg/products";
import type { MoeDescription } from "../../model/description";
import { collect, type MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import type { CompressedLayer } from "./compressedTensors";
import { LayerEngine } from "./layerEngine";
import { passOn, relativeOutputError, type RunnableLayer } from "./outputError";
import { LayerStages, type LayerStage } from "./stage";

/** A layer's result: what became of it, and its stage. */
export type StagedLayer = CompressedLayer & LayerStage;

/** How a method makes the new tensors of a model, one layer after the other. */
export interface LayerMethod {
  context: MethodContext;
  /** Calibration sequences that it looks at. */
  sequences: number;
  /** Whether text runs through the layers; without it weights alone decide, and no error is measured. */
  readsText: boolean;
  /** Whether later layers see what the compressed ones give. */
  sequential: boolean;
  /** Everything that decides a layer's staged tensors. */
  inputs: (layer: number) => unknown;
  prepare: (at: LayerAtHand) => LayerWork | Promise<LayerWork>;
  result: (layer: number, moe: MoeDescription, stage: LayerStage) => StagedLayer;
}

export interface LayerAtHand {
  layer: number;
  moe: MoeDescription;
  engine: LayerEngine;
  products: MatrixProducts;
  /** What the layer saw of the text; null without text. */
  collected: CollectedLayer | null;
}

/** A layer about to be compressed. */
export interface LayerWork {
  /** Made as they are written, in this order. */
  tensors: readonly TensorSource[];
  /** The layer as it runs from its staged tensors; null where its routed output has no meaning or is the same. */
  runnable: (staged: ReadonlyMap<string, TensorEntry>) => RunnableLayer | null;
  /** What was found while the tensors were made. */
  found?: () =>
    Partial<Pick<LayerStage, "metrics" | "notes">> | Promise<Partial<Pick<LayerStage, "metrics" | "notes">>>;
  /** Measured after the output error. */
  measure?: (collected: CollectedLayer) => Promise<Record<string, number>>;
  /** After the stage is whole on disk. */
  done?: () => Promise<void>;
}

/** Compresses every sparse layer that is not staged yet, in one pass over the text where there is one. */
export async function compressLayers(method: LayerMethod): Promise<Map<number, StagedLayer>> {
  const { context, sequential } = method;
  const layers = moeLayers(context.description).filter(({ layer }) => context.only?.layer === layer || !context.only);
  const done = await stagedLayers(method, layers);
  if (done.size === layers.length) return done;
  if (context.elsewhere && !sequential) {
    const { elsewhere, ...here } = context;
    const missing = new Set(layers.flatMap(({ layer }) => (done.has(layer) ? [] : [layer])));
    const give = async (layer: number, collected: CollectedLayer | null) => {
      if (missing.has(layer)) await elsewhere.give(layer, collected);
    };
    if (method.readsText)
      await collect(context, method.sequences, (collected) => give(collected.layer.index, collected));
    else for (const layer of missing) await give(layer, null);
    await elsewhere.done();
    // What was not staged there as it would be here is staged here.
    return compressLayers({ ...method, context: here });
  }
  const products = new MatrixProducts(context.runtime);
  try {
    if (!method.readsText || context.only) {
      const collected = context.only?.collected ?? null;
      for (const { layer, moe } of layers) {
        if (!done.has(layer)) done.set(layer, await compressLayer(method, products, layer, moe, collected));
      }
      return done;
    }
    await collect(context, method.sequences, async (collected) => {
      const layer = collected.layer.index;
      if (done.has(layer) && !sequential) return;
      done.set(layer, await compressLayer(method, products, layer, collected.moe, collected));
    });
    return done;
  } finally {
    await products.close();
  }
}

/** Layers that are staged already. */
async function stagedLayers(
  method: LayerMethod,
  layers: readonly { layer: number; moe: MoeDescription }[],
): Promise<Map<number, StagedLayer>> {
  const stages = new LayerStages(method.context.stateDirectory);
  const done = new Map<number, StagedLayer>();
  for (const { layer, moe } of layers) {
    const stage = await stages.find(layer, method.inputs(layer));
    if (stage) done.set(layer, method.result(layer, moe, stage));
  }
  return done;
}

/** Compresses one layer (or finds it staged), measures what that changes, and lets later layers see it where asked for. */
export async function compressLayer(
  method: LayerMethod,
  products: MatrixProducts,
  layer: number,
  moe: MoeDescription,
  collected: CollectedLayer | null,
): Promise<StagedLayer> {
  const { context, sequential } = method;
  throwIfCancelled(context.signal);
  const stages = new LayerStages(context.stateDirectory);
  const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
  try {
    const inputs = method.inputs(layer);
    const work = await method.prepare({ layer, moe, engine, products, collected });
    let stage = await stages.find(layer, inputs);
    if (stage === null) {
      const finish = (staged: ReadonlyMap<string, TensorEntry>) => findings(work, engine, collected, staged);
      stage = await stages.write(layer, inputs, work.tensors, finish, context.signal);
      await work.done?.();
    }
    const runnable = sequential ? work.runnable(stage.tensors) : null;
    if (runnable && collected) await passOn(engine, collected, runnable);
    return method.result(layer, moe, stage);
  } finally {
    await engine.close();
  }
}

async function findings(
  work: LayerWork,
  engine: LayerEngine,
  collected: CollectedLayer | null,
  staged: ReadonlyMap<string, TensorEntry>,
): Promise<Pick<LayerStage, "metrics" | "notes">> {
  const found = await work.found?.();
  const metrics = { ...found?.metrics };
  const runnable = collected && work.runnable(staged);
  if (runnable) metrics["outputError"] = await relativeOutputError(engine, collected, runnable);
  if (collected) Object.assign(metrics, await work.measure?.(collected));
  return { metrics, notes: found?.notes ?? [] };
}

/** Experts that no calibration token was routed to, as a note that ends with what happens to them; none: no note. */
export function neverRoutedNotes(
  { layer, moe, selectedIds, numTokens }: CollectedLayer,
  consequence: string,
): string[] {
  const used = new Set(selectedIds);
  const unused = moe.experts.flatMap((_, e) => (used.has(e) ? [] : [e]));
  if (unused.length === 0) return [];
  return [
    `layer ${layer.index}: ${unused.length} of ${moe.numExperts} experts never routed by ${numTokens} calibration tokens ` +
      `(${unused.join(", ")}); ${consequence}`,
  ];
}
