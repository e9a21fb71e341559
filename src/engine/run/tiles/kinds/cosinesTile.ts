import { readSafetensorsFile, writeSafetensorsFile } from "../../../checkpoint/safetensorsFile";
import { cosinePieces, WeightCosine } from "../../../compression/layer/weightCosine";
import { moeLayers } from "../../../model/moeLayers";
import { routedExperts } from "../../liveWork";
import type { HeavyWork } from "../../work";
import type { TileOf } from "../tile";
import { ask, namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** Cosines of the experts' weights, a tile a layer. */
export async function askCosines(
  { model, runtime, report }: Parameters<HeavyWork["weightCosines"]>[0],
  desk: TileDesk,
): Promise<Map<number, Float64Array>> {
  const layers = moeLayers(model.description);
  const numbers = cosinePieces(runtime);
  const tiles = layers.map(({ layer }) => tileOf(desk, "cosines", { model: namedModel(model), layer, numbers }));
  let done = 0;
  await Promise.all(
    tiles.map(async (tile) => {
      await ask(tile, desk);
      const message = "Comparing the experts' weights";
      report({ stage: "profile", message, done: ++done, total: layers.length, unit: "steps" });
    }),
  );
  const found = new Map<number, Float64Array>();
  for (const { key, layer } of tiles) {
    const matrix = (await readSafetensorsFile(desk.store.file(key))).tensors.get("cosine");
    if (matrix) found.set(layer, new Float64Array(matrix.data.slice().buffer));
  }
  return found;
}

export async function doCosines(
  tile: TileOf<"cosines">,
  { model: open, runtime, store, signal }: TileHost,
): Promise<number> {
  const { checkpoint, description } = await open(tile.model);
  const { moe } = moeLayers(description).find(({ layer }) => layer === tile.layer)!;
  const cosine = new WeightCosine(checkpoint, runtime, tile.numbers);
  try {
    const data = await cosine.ofLayer(routedExperts(moe), signal);
    const E = Math.sqrt(data?.length ?? 0);
    const tensors = data === null ? [] : [["cosine", { dtype: "F64" as const, shape: [E, E], data }] as const];
    await writeSafetensorsFile(store.file(tile.key), new Map(tensors));
  } finally {
    await cosine.close();
  }
  return 0;
}
