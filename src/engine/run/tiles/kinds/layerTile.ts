import { copyFile, mkdir, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { writeFileAtomically } from "../../../checkpoint/atomicFile";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../../../checkpoint/safetensorsFile";
import { stageFile } from "../../../compression/layer/stage";
import { applyPlan } from "../../../compression/methods";
import type { LayersElsewhere } from "../../../compression/methodContext";
import { parsePlan } from "../../../compression/plan/validatePlan";
import type { CollectedLayer } from "../../../execution/collectLayers";
import { MemoryHiddenStates } from "../../../execution/hiddenStates";
import type { ModelDescription } from "../../../model/description";
import { moeLayers } from "../../../model/moeLayers";
import { loadRoutingStatistics } from "../../../routing/statisticsFile";
import { linkFile } from "../../folder/linkFile";
import type { HeavyWork } from "../../work";
import { writeTileJson, writeTileText, type InputFile } from "../inputFiles";
import type { TileOf } from "../tile";
import { hashOfFile, type TileStore } from "../tileStore";
import { ask, namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** Layers whose inputs lie on disk at a time. */
const mostInputs = 8;

/** Stages layers by tiles, each of which is one layer with what it saw of the text. */
export function layersByTiles(
  { context, plan, statisticsFile }: Parameters<NonNullable<HeavyWork["stageLayers"]>>[0],
  desk: TileDesk,
): LayersElsewhere {
  const { store } = desk;
  const { options, seed, sequences, statistics, stateDirectory } = context;
  const common = (async () => ({
    ...{ model: namedModel(context), options, seed, plan: await writeTileJson(store.folder, "plan", plan) },
    statistics: statistics && (await linked(statisticsFile, "statistics", store)),
    text: sequences && (await writeTileText(store.folder, sequences)),
  }))();
  const staging = new Set<Promise<void>>();
  let failure: unknown = null;
  const stage = async (layer: number, seen: InputFile | null) => {
    const tile = tileOf(desk, "compress", { ...(await common), layer, seen });
    await ask(tile, desk);
    await mkdir(stateDirectory, { recursive: true });
    await rename(store.file(tile.key), stageFile(stateDirectory, layer, "safetensors"));
    await writeFileAtomically(stageFile(stateDirectory, layer, "json"), await readFile(store.extra(tile.key)));
    await store.remove(tile.key);
    if (seen) await rm(path.join(store.folder, seen.name), { force: true });
  };
  return {
    give: async (layer, collected) => {
      const seen = collected && (await writeSeen(store, layer, collected));
      const work = stage(layer, seen)
        .catch((error: unknown) => {
          failure ??= error;
        })
        .finally(() => staging.delete(work));
      staging.add(work);
      while (collected && staging.size >= mostInputs) await Promise.race(staging);
      if (failure !== null) throw failure as Error;
    },
    done: async () => {
      while (staging.size > 0) await Promise.all(staging);
      if (failure !== null) throw failure as Error;
      await store.clear();
    },
  };
}

export async function doLayer(tile: TileOf<"compress">, host: TileHost): Promise<number> {
  const model = await host.model(tile.model);
  const { runtime, signal, store } = host;
  const { options, seed, layer } = tile;
  const stateDirectory = path.join(host.scratchDirectory, `layers-${tile.key.slice(0, 16)}`);
  const planFile = await store.input(tile.plan);
  const collected = tile.seen && (await readSeen(await store.input(tile.seen), layer, model.description));
  const context = {
    ...{ ...model, options, seed, runtime, signal, stateDirectory, only: { layer, collected } },
    statistics: tile.statistics && (await loadRoutingStatistics(await store.input(tile.statistics))),
    sequences: tile.text && (await host.sequences(tile.text)),
  };
  try {
    await applyPlan(context, parsePlan(await readFile(planFile, "utf8"), planFile, options));
    await moveFile(stageFile(stateDirectory, layer, "json"), store.extra(tile.key));
    await moveFile(stageFile(stateDirectory, layer, "safetensors"), store.file(tile.key));
  } finally {
    await rm(stateDirectory, { recursive: true, force: true });
  }
  return collected?.numTokens ?? 0;
}

/** Under its name only when it is whole: from one disk to another it is copied. */
async function moveFile(from: string, to: string): Promise<void> {
  await copyFile(from, `${to}.partial`);
  await rename(`${to}.partial`, to);
}

async function linked(file: string, what: string, { folder }: TileStore): Promise<InputFile> {
  const sha256 = await hashOfFile(file);
  const name = `${what}-${sha256.slice(0, 16)}.safetensors`;
  await linkFile(file, path.join(folder, name));
  return { name, sha256 };
}

async function writeSeen({ folder }: TileStore, layer: number, seen: CollectedLayer): Promise<InputFile> {
  const { inputs, numTokens: T, routerLogits, selectedIds, routingWeights, domainIds, sequenceIds } = seen;
  const name = `seen-${layer}.safetensors`;
  const of = (dtype: MemoryTensor["dtype"], data: MemoryTensor["data"] & { length: number }): MemoryTensor => ({
    ...{ dtype, shape: [T, data.length / T], data },
  });
  const tensors = {
    inputs: of("F32", inputs.read(0, T)),
    routerLogits: of("F32", routerLogits),
    selectedIds: of("I32", selectedIds),
    routingWeights: of("F32", routingWeights),
    domainIds: of("U8", domainIds),
    sequenceIds: of("I32", sequenceIds),
  };
  const file = path.join(folder, name);
  await writeSafetensorsFile(file, new Map(Object.entries(tensors)));
  return { name, sha256: await hashOfFile(file) };
}

async function readSeen(file: string, layer: number, description: ModelDescription): Promise<CollectedLayer> {
  const { tensors } = await readSafetensorsFile(file);
  const bytes = (name: string) => tensors.get(name)!.data.slice().buffer;
  const [numTokens = 0, width = 0] = tensors.get("inputs")!.shape;
  const inputs = new MemoryHiddenStates(numTokens, width);
  inputs.write(0, new Float32Array(bytes("inputs")));
  return {
    ...{ layer: description.layers[layer]!, moe: moeLayers(description).find((of) => of.layer === layer)!.moe },
    ...{ numTokens, inputs, routerLogits: new Float32Array(bytes("routerLogits")) },
    ...{ selectedIds: new Int32Array(bytes("selectedIds")), routingWeights: new Float32Array(bytes("routingWeights")) },
    ...{ domainIds: new Uint8Array(bytes("domainIds")), sequenceIds: new Int32Array(bytes("sequenceIds")) },
    // Nothing comes behind this layer here.
    addToOutput: () => undefined,
  };
}
