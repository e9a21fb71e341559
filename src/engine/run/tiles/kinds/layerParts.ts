import { rm } from "node:fs/promises";
import type { TokenSequences } from "../../../data/sequences";
import { tokenBatch } from "../../../execution/batches";
import type { ExecutorOptions } from "../../../execution/executorOptions";
import { MemoryHiddenStates, type HiddenStates } from "../../../execution/hiddenStates";
import { ModelExecutor } from "../../../execution/modelExecutor";
import type { ForwardOptions } from "../../../execution/passOptions";
import type { ModelDescription } from "../../../model/description";
import type { HeadSource } from "../../../execution/headGraphs";
import { readNamed, writeNamed } from "../inputFiles";
import type { LayerRange, Tile, TileResult } from "../tile";
import { ask, type TileDesk, type TileHost } from "./tileHost";

/**
 * Layers [from, to) of each part, with as many MoE layers in each as can be, and one at least: the parts of a model with
 * fewer MoE layers are those fewer.
 */
export function layerBounds({ layers }: ModelDescription, parts: number): { from: number; to: number }[] {
  const places = layers.flatMap(({ feedForward }, place) => (feedForward.kind === "moe" ? [place] : []));
  const count = Math.max(1, Math.min(parts, places.length));
  const starts = Array.from({ length: count }, (_, i) =>
    i === 0 ? 0 : places[Math.floor((i * places.length) / count)]!,
  );
  return starts.map((from, i) => ({ from, to: starts[i + 1] ?? layers.length }));
}

/**
 * Asks for a tile of all layers, or where the run cuts them into parts, for one tile a part, each of which reads the hidden states
 * that the one before hands on.
 * @returns the tiles with their results, in order of their layers
 */
export async function askThroughLayers<T extends Tile>(
  description: ModelDescription,
  desk: TileDesk,
  make: (layers?: LayerRange) => T,
): Promise<{ tile: T; result: TileResult }[]> {
  const { store, layerParts = 1 } = desk;
  const bounds = layerBounds(description, layerParts);
  if (bounds.length === 1) {
    const tile = make();
    return [{ tile, result: await ask(tile, desk) }];
  }
  for (;;) {
    const done: { tile: T; result: TileResult }[] = [];
    let before: TileResult | null = null;
    for (const [part, layers] of bounds.entries()) {
      const hidden: LayerRange["hidden"] = before && {
        name: store.handedName(before.key),
        sha256: before.hidden!.sha256,
      };
      const tile = make({ ...layers, part, parts: bounds.length, hidden });
      // What was handed on is gone once it was read; if the reader's tile is gone, too, all begins again.
      if (before?.hidden?.isUsed && (await store.find(tile.key)) === null) break;
      const result = await ask(tile, desk);
      done.push({ tile, result });
      if (before !== null && before.hidden!.isUsed !== true) {
        await store.record({ ...before, hidden: { ...before.hidden!, isUsed: true } });
        await rm(store.handed(before.key), { force: true });
      }
      before = result;
    }
    if (done.length === bounds.length) return done;
    for (const { tile } of done) await store.remove(tile.key);
  }
}

/**
 * Sequences through a tile's layers, or where the run does not cut them, through all. What comes out goes to the next part, or of
 * the last one, before it is normalised, to `last`.
 * @returns the tokens that were worked on, as a share of all layers
 */
export async function throughLayers(
  { key, layers: range }: { key: string; layers?: LayerRange | undefined },
  { checkpoint, description }: HeadSource,
  sequences: TokenSequences,
  host: TileHost,
  options: Pick<ForwardOptions, "observer" | "collectOutputs" | "onChunk"> & Pick<ExecutorOptions, "sampler">,
  last?: (hidden: HiddenStates, executor: ModelExecutor) => Promise<void>,
): Promise<number> {
  const { runtime, scratchDirectory, signal, onChunk, store } = host;
  const { sampler, ...hooks } = options;
  const layers = range ?? { from: 0, to: description.layers.length, part: 0, parts: 1, hidden: null };
  const { sequenceLength } = sequences;
  const executor = await ModelExecutor.open({
    ...{ checkpoint, description, sequenceLength, runtime, scratchDirectory, direction: "forward" },
    ...(sampler === undefined ? {} : { sampler }),
  });
  try {
    const start = layers.hidden && (await handedOn(await store.input(layers.hidden), description.hiddenSize));
    using hidden = await executor.forward(tokenBatch(sequences), {
      ...{ onChunk, ...hooks, signal, end: layers.to },
      ...(start === null ? {} : { start: { layers: layers.from, hidden: start } }),
    });
    if (layers.part + 1 < layers.parts)
      await writeNamed(store.handed(key), new Map([["hidden", hidden.read(0, hidden.numTokens)]]));
    else await last?.(hidden, executor);
  } finally {
    await executor.close();
  }
  return Math.round((sequences.ids.length * (layers.to - layers.from)) / description.layers.length);
}

async function handedOn(file: string, width: number): Promise<HiddenStates> {
  const rows = (await readNamed(file)).values.get("hidden")!;
  const states = new MemoryHiddenStates(rows.length / width, width);
  states.write(0, rows);
  return states;
}
