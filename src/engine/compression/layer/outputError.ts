import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readFloat32 } from "../../checkpoint/read";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { MoeDescription, WeightView } from "../../model/description";
import { selectExperts } from "../../model/selection";
import { chunks, chunkTokens, type LayerEngine } from "./layerEngine";
import type { LayerOutcome } from "./stagedExperts";

/** A compressed layer that can be run: where its weights are, and which router rows are left. */
export interface RunnableLayer {
  checkpoint: Checkpoint;
  moe: MoeDescription;
  outcome: LayerOutcome;
  /** Which version of the layer it is: its compiled graphs are kept under this name. */
  name: string;
  /** [hidden]: what the layer reads is divided by these, by a norm that changed with it; absent: it is not. */
  inputScales?: ArrayLike<number>;
}

/** Routed outputs of the original and of the compressed layer for the same tokens, a chunk at a time. */
export async function* compareOutputs(
  engine: LayerEngine,
  collected: CollectedLayer,
  compressed: RunnableLayer,
  maxTokens = Infinity,
): AsyncGenerator<{ from: number; before: Float32Array; after: Float32Array }> {
  const { moe, inputs, layer } = collected;
  const { inputScales } = compressed;
  const bias = await correctionBias(engine.checkpoint, moe);
  const rows = compressed.outcome.routerRows;
  const numBefore = moe.numExperts;
  const numAfter = rows?.length ?? numBefore;
  const biasAfter = bias && rows ? Float32Array.from(rows, (row) => bias[row]!) : bias;
  const k = moe.numExpertsPerToken;
  for (const [from, to] of chunks(Math.min(collected.numTokens, maxTokens), chunkTokens)) {
    const x = inputs.read(from, to);
    const logits = collected.routerLogits.subarray(from * numBefore, to * numBefore);
    const ids = collected.selectedIds.slice(from * k, to * k);
    const before = await engine.routed(`before ${layer.index}`, engine.checkpoint, moe, x, logits, ids);
    const logitsAfter = rows === null ? logits : pickColumns(logits, numBefore, rows);
    const idsAfter = new Int32Array(ids.length);
    selectExperts(moe.routing, logitsAfter, to - from, numAfter, k, biasAfter, idsAfter);
    const after = await engine.routed(
      `${compressed.name} ${layer.index}`,
      compressed.checkpoint,
      compressed.moe,
      inputScales === undefined ? x : x.map((value, i) => value / inputScales[i % inputs.width]!),
      logitsAfter,
      idsAfter,
    );
    yield { from, before, after };
  }
}

/** sum ||y - y'||^2 / sum ||y||^2 of the routed output over the collected tokens: the activation-weighted error. */
export async function relativeOutputError(
  engine: LayerEngine,
  collected: CollectedLayer,
  compressed: RunnableLayer,
  maxTokens = 8192,
): Promise<number> {
  let error = 0;
  let size = 0;
  for await (const { before, after } of compareOutputs(engine, collected, compressed, maxTokens)) {
    for (let i = 0; i < before.length; i++) {
      error += (before[i]! - after[i]!) ** 2;
      size += before[i]! ** 2;
    }
  }
  return size > 0 ? error / size : 0;
}

/** Later layers get what the compressed layer gives: the difference of both outputs is added to the hidden states. */
export async function passOn(engine: LayerEngine, collected: CollectedLayer, layer: RunnableLayer): Promise<void> {
  for await (const { from, before, after } of compareOutputs(engine, collected, layer)) {
    const change = after.map((value, i) => (value - before[i]!) * collected.layer.feedForwardMultiplier);
    collected.addToOutput(from, change);
  }
}

/** The layer's correction bias, which selection adds to scores; null without one. */
export async function correctionBias(checkpoint: Checkpoint, { router }: MoeDescription): Promise<Float32Array | null> {
  return router.correctionBias === null ? null : readVector(checkpoint, router.correctionBias);
}

/** The numbers of a small tensor. */
export async function readVector(checkpoint: Checkpoint, view: WeightView): Promise<Float32Array> {
  const entry = checkpoint.tensors.get(view.tensor)!;
  return readFloat32(entry, { offset: view.offset, count: view.shape.reduce((product, size) => product * size, 1) });
}

/** Some columns of a [rows, width] matrix. */
export function pickColumns(values: Float32Array, width: number, columns: readonly number[]): Float32Array {
  const rows = values.length / width;
  const result = new Float32Array(rows * columns.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns.length; j++) result[i * columns.length + j] = values[i * width + columns[j]!]!;
  }
  return result;
}
