import { throwIfCancelled } from "../../../../protocol/errors";
import { sliceSequences } from "../../../data/sequences";
import { observedByAll } from "../../../execution/observer";
import { profileCheckpoint } from "../../../execution/profile";
import { moeLayers } from "../../../model/moeLayers";
import { RoutingStatistics } from "../../../routing/collect";
import { loadRoutingStatistics, saveRoutingStatistics } from "../../../routing/statisticsFile";
import { TokenSampler } from "../../../routing/tokenSampler";
import type { HeavyWork } from "../../work";
import { writeTileText } from "../inputFiles";
import type { TileOf } from "../tile";
import { leafTiles } from "../tileCuts";
import { askThroughLayers, throughLayers } from "./layerParts";
import { namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** Profiles by tiles, into the statistics that the pass was to add to. */
export async function askProfile(p: Parameters<HeavyWork["profile"]>[0], desk: TileDesk): Promise<void> {
  const { model, sequences, signal, report } = p;
  const { statistics, sampler } = p.parts!;
  const { renormalises } = statistics.options;
  const text = await writeTileText(desk.store.folder, sequences);
  const slices = leafTiles(sequences.numSequences, sequences.sequenceLength);
  const total = sequences.ids.length;
  let done = 0;
  // All are waited for in turn; the one that fails first ends the stage.
  const tiles = await Promise.all(
    slices.map(async ({ leaves: _, ...slice }) => {
      const parts = await askThroughLayers(model.description, desk, (layers) =>
        tileOf(desk, "profile", { model: namedModel(model), text, ...slice, renormalises, ...(layers && { layers }) }),
      );
      done += (slice.to - slice.from) * sequences.sequenceLength;
      report({ stage: "profile", message: "Profiling routing", done, total, unit: "tokens" });
      return parts;
    }),
  );
  for (const [i, { from, leaves }] of slices.entries())
    for (const { tile } of tiles[i]!) {
      throwIfCancelled(signal);
      const { layers, samples } = await loadRoutingStatistics(desk.store.file(tile.key));
      statistics.add(layers, leaves);
      if (samples) sampler.add(samples, from * sequences.sequenceLength);
    }
}

export async function doProfile(tile: TileOf<"profile">, host: TileHost): Promise<number> {
  const model = await host.model(tile.model);
  const sequences = sliceSequences(await host.sequences(tile.text), tile.from, tile.to);
  const { renormalises } = tile;
  const { fingerprint } = model;
  const statistics = new RoutingStatistics({ checkpoint: fingerprint, fingerprint, sequences, renormalises });
  const sampler = new TokenSampler(sequences, moeLayers(model.description).length);
  const observer = observedByAll([statistics, sampler]);
  const { runtime, scratchDirectory, signal, onChunk } = host;
  let tokens = sequences.ids.length;
  if (tile.layers !== undefined) {
    const { key, layers } = tile;
    tokens = await throughLayers({ key, layers }, model, sequences, host, { observer, collectOutputs: true });
  } else
    await profileCheckpoint({
      ...{ ...model, sequences, observer, collectOutputs: true },
      ...{ runtime, scratchDirectory, signal, report: onChunk },
    });
  await saveRoutingStatistics(host.store.file(tile.key), { ...statistics.result(), samples: sampler.samples() });
  return tokens;
}
