import path from "node:path";
import { previewBytes } from "../../model/previewProducts";
import { tilesFolder } from "../folder/leftovers";
import type { HeavyWork } from "../work";
import type { Carrier, TileEvents } from "./carrier";
import { askStudent, askTargets } from "./kinds/calibrationTiles";
import { askCosines } from "./kinds/cosinesTile";
import { askEvaluation } from "./kinds/evaluationTiles";
import { layersByTiles } from "./kinds/layerTile";
import { askProfile } from "./kinds/profileTile";
import type { TileDesk } from "./kinds/tileHost";
import { TileStore } from "./tileStore";

/**
 * The heavy work of a run with tiles carried to workers. What comes out is, to the bit, what `live` gives alone; what no kind of
 * tile is for is its own. The folder of tiles decides what is missing: whoever carries them may forget everything at any time.
 *
 * @param directory of the run, for tiles of work that has no folder of its own
 * @param layerParts that the layers are cut into in passes of the teacher (profile, targets)
 */
export function distributedWork(
  live: HeavyWork,
  carrier: Carrier,
  events: TileEvents,
  directory: string,
  layerParts = 1,
): HeavyWork {
  const deskIn = async (stateDirectory: string, signal: AbortSignal): Promise<TileDesk> => {
    const store = new TileStore(path.join(stateDirectory, tilesFolder));
    await store.make();
    return { carrier, store, events, layerParts, signal };
  };
  const lastStudent = new Set<string>();
  return {
    ...live,
    profile: async (p) => {
      // Workers compute exact products only.
      if (p.parts === undefined || previewBytes(p.model.description) > 0) return live.profile(p);
      const desk = await deskIn(p.stateDirectory, p.signal);
      await askProfile(p, desk);
      await desk.store.clear();
    },
    weightCosines: async (p) => {
      const desk = await deskIn(directory, p.signal);
      const found = await askCosines(p, desk);
      await desk.store.clear();
      return found;
    },
    stageLayers: (p) => {
      const { signal = new AbortController().signal, stateDirectory } = p.context;
      const opened = deskIn(path.dirname(stateDirectory), signal).then((desk) => layersByTiles(p, desk));
      return { give: async (...of) => (await opened).give(...of), done: async () => (await opened).done() };
    },
    calibrate: async (p) => {
      const { options } = p;
      const desk = await deskIn(p.stateDirectory, p.signal);
      const trainsRouters = options.scope === "router" && options.loss !== "router-logits";
      const ofStudent = trainsRouters && options.teacherRouting?.kind !== "student-aware" ? askStudent(p, desk) : {};
      const result = await live.calibrate({ ...p, elsewhere: { teacherRows: askTargets(p, desk), ...ofStudent } });
      await desk.store.clear();
      return result;
    },
    // Tiles of the teacher, and of the last student, stay for the students to come; removeEvaluationState takes them away.
    evaluate: async (p) => {
      const desk = await deskIn(p.teacherDirectory ?? p.stateDirectory, p.signal);
      return live.evaluate({ ...p, passes: () => askEvaluation(p, desk, lastStudent) });
    },
  };
}
