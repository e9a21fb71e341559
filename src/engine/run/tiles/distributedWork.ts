import { rm } from "node:fs/promises";
import path from "node:path";
import { throwIfCancelled } from "../../../protocol/errors";
import { contentKey } from "../../checkpoint/contentKey";
import type { TokenSequences } from "../../data/sequences";
import type { UpdateGradients } from "../../distillation/calibration";
import { loadRoutingStatistics } from "../../routing/statisticsFile";
import { addNamed, TreeFold } from "../../tensor/treeFold";
import type { HeavyWork, OpenModel } from "../work";
import { wholeTile, type Carrier, type TileEvents } from "./carrier";
import { readNamed, writeNamed, writeTileText } from "./inputFiles";
import { profileTiles } from "./runTile";
import { keyed } from "./tile";
import { hashOfFile, tilesFolder, TileStore } from "./tileStore";

/** An update is cut into single sequences, or where it has more than these, into aligned parts of a power of two. */
const mostGradientTiles = 16;

/**
 * The heavy work of a run with tiles carried to workers: the profile and the gradients of Router KD. What comes out is, to
 * the bit, what `live` gives alone; everything else is its own. The folder of tiles decides what is missing: whoever carries
 * them may forget everything at any time.
 *
 * @param events told of each tile
 */
export function distributedWork(live: HeavyWork, carrier: Carrier, events: TileEvents): HeavyWork {
  return {
    ...live,
    profile: async (p) => {
      const { model, sequences, parts, stateDirectory, signal, report } = p;
      if (parts === undefined) return live.profile(p);
      const store = await openStore(stateDirectory);
      const text = await writeTileText(store.folder, sequences);
      const tiles = profileTiles(sequences.numSequences, sequences.sequenceLength).map(({ from, to, leaves }) => {
        const { renormalises } = parts.statistics.options;
        const common = { folder: store.folder, numerics: carrier.numerics, text };
        return {
          from,
          leaves,
          tile: keyed({ ...common, kind: "profile", model: nameOf(model), from, to, renormalises }),
        };
      });
      const total = sequences.ids.length;
      let done = 0;
      const results = tiles.map(async ({ tile }) => {
        const result = await wholeTile(tile, store, carrier, signal, events);
        done += result.tokens;
        report({ stage: "profile", message: "Profiling routing", done, total, unit: "tokens" });
      });
      // All are waited for in turn; the one that fails first ends the stage.
      await Promise.all(results);
      for (const { tile, from, leaves } of tiles) {
        throwIfCancelled(signal);
        const { layers, samples } = await loadRoutingStatistics(store.file(tile.key));
        parts.statistics.add(layers, leaves);
        if (samples) parts.sampler.add(samples, from * sequences.sequenceLength);
      }
      await store.clear();
    },
    calibrate: async (p) => {
      const { options, student, teacher, training, stateDirectory } = p;
      const isRouterKd = options.scope === "router" && options.loss !== "router-logits";
      if (!isRouterKd || options.teacherRouting?.kind === "student-aware") return live.calibrate(p);
      const store = await openStore(stateDirectory);
      const updates = gradientsByTiles({ carrier, store, student, teacher, training, options, events });
      const result = await live.calibrate({ ...p, updateGradients: updates });
      await store.clear();
      return result;
    },
  };
}

/** The gradients of an update: parts of its batch, joined in the tree over the batch's sequences. */
function gradientsByTiles(of: {
  carrier: Carrier;
  store: TileStore;
  student: OpenModel;
  teacher: OpenModel;
  training: TokenSequences;
  options: Parameters<HeavyWork["calibrate"]>[0]["options"];
  events: TileEvents;
}): UpdateGradients {
  const { carrier, store, student, teacher, training, options, events } = of;
  let text: ReturnType<typeof writeTileText> | null = null;
  return async ({ parameters, numbers, numTargets, targets }, signal) => {
    text ??= writeTileText(store.folder, training);
    const name = `parameters-${contentKey([...parameters]).slice(0, 16)}.safetensors`;
    const file = path.join(store.folder, name);
    await writeNamed(file, parameters);
    const common = {
      ...{ folder: store.folder, numerics: carrier.numerics, text: await text, kind: "gradient" as const },
      ...{ student: nameOf(student), teacher: nameOf(teacher), options, numTargets },
      ...{ parameters: { name, sha256: await hashOfFile(file) }, targets: targets.map((at) => path.basename(at)) },
    };
    const all = Array.from(numbers);
    const size = 2 ** Math.max(0, Math.ceil(Math.log2(all.length / mostGradientTiles)));
    const parts = Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
    const tiles = parts.map((part, i) => keyed({ ...common, numbers: part, at: i * size }));
    const untilStopped = signal ?? new AbortController().signal;
    await Promise.all(tiles.map((tile) => wholeTile(tile, store, carrier, untilStopped, events)));
    const tree = new TreeFold<{ loss: number; gradients: Map<string, Float32Array> }>((left, right) => ({
      loss: left.loss + right.loss,
      gradients: addNamed(left.gradients, right.gradients),
    }));
    for (const [i, tile] of tiles.entries()) {
      const { values, numbers: found } = await readNamed(store.file(tile.key));
      // The file has the order of its names, the model's is that of its parameters.
      tree.add(
        {
          loss: found["loss"]!,
          gradients: new Map([...parameters.keys()].map((key) => [key, values.get(key)!])),
        },
        parts[i]!.length,
      );
    }
    for (const { key } of tiles) await store.remove(key);
    await rm(file, { force: true });
    return tree.take()!;
  };
}

async function openStore(stateDirectory: string): Promise<TileStore> {
  const store = new TileStore(path.join(stateDirectory, tilesFolder));
  await store.make();
  return store;
}

function nameOf({ checkpoint, fingerprint }: OpenModel): { path: string; fingerprint: string } {
  return { path: checkpoint.directory, fingerprint };
}
