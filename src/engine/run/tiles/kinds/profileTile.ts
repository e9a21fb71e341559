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
import { ask, namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** Profiles by tiles, into the statistics that the pass was to add to. */
export async function askProfile(p: Parameters<HeavyWork["profile"]>[0], desk: TileDesk): Promise<void> {
  const { model, sequences, signal, report } = p;
  const { statistics, sampler } = p.parts!;
  const { renormalises } = statistics.options;
  const text = await writeTileText(desk.store.folder, sequences);
  const tiles = leafTiles(sequences.numSequences, sequences.sequenceLength).map(({ leaves, ...slice }) => ({
    ...{ leaves, tile: tileOf(desk, "profile", { model: namedModel(model), text, ...slice, renormalises }) },
  }));
  const total = sequences.ids.length;
  let done = 0;
  // All are waited for in turn; the one that fails first ends the stage.
  await Promise.all(
    tiles.map(async ({ tile }) => {
      done += (await ask(tile, desk)).tokens;
      report({ stage: "profile", message: "Profiling routing", done, total, unit: "tokens" });
    }),
  );
  for (const { tile, leaves } of tiles) {
    throwIfCancelled(signal);
    const { layers, samples } = await loadRoutingStatistics(desk.store.file(tile.key));
    statistics.add(layers, leaves);
    if (samples) sampler.add(samples, tile.from * sequences.sequenceLength);
  }
}

export async function doProfile(tile: TileOf<"profile">, host: TileHost): Promise<number> {
  const model = await host.model(tile.model);
  const sequences = sliceSequences(await host.sequences(tile.text), tile.from, tile.to);
  const { renormalises } = tile;
  const { fingerprint } = model;
  const statistics = new RoutingStatistics({ checkpoint: fingerprint, fingerprint, sequences, renormalises });
  const sampler = new TokenSampler(sequences, moeLayers(model.description).length);
  const { runtime, scratchDirectory, signal, onChunk } = host;
  await profileCheckpoint({
    ...{ ...model, sequences, observer: observedByAll([statistics, sampler]), collectOutputs: true },
    ...{ runtime, scratchDirectory, signal, report: onChunk },
  });
  await saveRoutingStatistics(host.store.file(tile.key), { ...statistics.result(), samples: sampler.samples() });
  return sequences.ids.length;
}
