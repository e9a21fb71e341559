import { rm } from "node:fs/promises";
import path from "node:path";
import { contentKey } from "../../../checkpoint/contentKey";
import { sliceSequences, type TokenSequences } from "../../../data/sequences";
import type { Elsewhere, TargetRows, UpdateGradients } from "../../../distillation/calibration";
import { heldOutRows } from "../../../distillation/heldOut";
import { lossAndGradients } from "../../../distillation/losses";
import { KeyedDraws, teacherRoutes, type TeacherRoute } from "../../../distillation/teacherRouting";
import { TeacherTargets } from "../../../distillation/teacherTargets";
import { pickSequences } from "../../../execution/batches";
import { VocabularyHead } from "../../../execution/vocabularyHead";
import { addNamed, TreeFold } from "../../../tensor/treeFold";
import type { HeavyWork, OpenModel } from "../../work";
import { readNamed, writeNamed, writeTileText, type InputFile } from "../inputFiles";
import type { LayerRange, TileOf } from "../tile";
import { batchParts, heldOutTiles, targetTiles } from "../tileCuts";
import { hashOfFile } from "../tileStore";
import { askThroughLayers, throughLayers } from "./layerParts";
import type { StudentSeat } from "./studentSeat";
import { ask, namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** What of a calibration's updates and held-out evaluations is made by tiles: where routers alone train, all of it. */
export function askStudent(
  { student, teacher, training, heldOut, options }: Parameters<HeavyWork["calibrate"]>[0],
  desk: TileDesk,
): Pick<Elsewhere, "gradients" | "heldOut"> {
  const names = { student: namedModel(student), teacher: namedModel(teacher) };
  const ofTraining = once(() => writeTileText(desk.store.folder, training));
  const ofHeldOut = once(() => writeTileText(desk.store.folder, heldOut!));
  const gradients: UpdateGradients = async ({ parameters, numbers, numTargets, targets }, signal) => {
    const at = { ...desk, signal: signal ?? desk.signal };
    return withParameters(desk, parameters, async (file) => {
      const all = Array.from(numbers);
      const parts = batchParts(all.length);
      const common = { ...names, parameters: file, text: await ofTraining(), options, numTargets };
      const tiles = parts.map(({ from, to }) =>
        tileOf(desk, "gradient", {
          ...common,
          targets: targets.map((of) => path.basename(of)),
          numbers: all.slice(from, to),
          at: from,
        }),
      );
      await Promise.all(tiles.map((tile) => ask(tile, at)));
      const tree = new TreeFold<{ loss: number; gradients: Map<string, Float32Array> }>((left, right) => ({
        loss: left.loss + right.loss,
        gradients: addNamed(left.gradients, right.gradients),
      }));
      for (const tile of tiles) {
        const { values, numbers: found } = await readNamed(desk.store.file(tile.key));
        // The file has the order of its names, the model's is that of its parameters.
        const ordered = new Map([...parameters.keys()].map((key) => [key, values.get(key)!]));
        tree.add({ loss: found["loss"]!, gradients: ordered }, tile.numbers.length);
        await desk.store.remove(tile.key);
      }
      return tree.take()!;
    });
  };
  return {
    gradients,
    heldOut: ({ parameters, targets }, signal) => {
      const at = { ...desk, signal: signal ?? desk.signal };
      return withParameters(desk, parameters, async (file) => {
        const text = await ofHeldOut();
        const tiles = heldOutTiles(heldOut!.numSequences).map((slice) =>
          tileOf(desk, "held-out", {
            ...names,
            parameters: file,
            options,
            text,
            ...slice,
            targets: path.basename(targets),
          }),
        );
        await Promise.all(tiles.map((tile) => ask(tile, at)));
        const rows = { kl: new Float32Array(heldOut!.ids.length), nll: new Float32Array(heldOut!.ids.length) };
        for (const tile of tiles) {
          const { values } = await readNamed(desk.store.file(tile.key));
          for (const name of ["kl", "nll"] as const)
            rows[name].set(values.get(name)!, tile.from * heldOut!.sequenceLength);
          await desk.store.remove(tile.key);
        }
        return rows;
      });
    },
  };
}

/** The teacher's targets by tiles, given on in the order of the text. */
export function askTargets(
  { teacher, options, seed }: Pick<Parameters<HeavyWork["calibrate"]>[0], "teacher" | "options" | "seed">,
  desk: TileDesk,
): TargetRows {
  return async ({ sequences, from, draw, isOwnRouting }, signal, write) => {
    const at = { ...desk, signal: signal ?? desk.signal };
    const text = await writeTileText(desk.store.folder, sequences);
    const routing = isOwnRouting ? null : (options.teacherRouting ?? null);
    const common = { model: namedModel(teacher), text, routing, seed, draw };
    const slices = targetTiles(sequences.numSequences, sequences.sequenceLength)
      .filter(({ to }) => to > from)
      .map((slice) => ({ ...slice, from: Math.max(from, slice.from) }));
    const asked = slices.map((slice) =>
      askThroughLayers(teacher.description, at, (layers) =>
        tileOf(desk, "targets", { ...common, ...slice, ...(layers && { layers }) }),
      ),
    );
    // The first that fails is thrown below; the others are not left unheard.
    for (const one of asked) one.catch(() => undefined);
    for (const [i, { from: first }] of slices.entries()) {
      const parts = await asked[i]!;
      await write(first, (await readNamed(desk.store.file(parts.at(-1)!.tile.key))).values.get("hidden")!);
      for (const { tile } of parts) await desk.store.remove(tile.key);
    }
  };
}

export async function doGradients(tile: TileOf<"gradient">, host: TileHost, seat: StudentSeat): Promise<number> {
  const all = await host.sequences(tile.text);
  const { executor, head } = await seat.with(tile, all.sequenceLength, host);
  const sequences = pickSequences(all, tile.numbers);
  const teacher = await host.model(tile.teacher);
  const draws = tile.targets.map((name) => targetsOf(name, teacher, all, host));
  const { loss, gradients } = await lossAndGradients(
    executor,
    head,
    { sequences, numbers: tile.numbers, numTargets: tile.numTargets },
    draws.length === 0 ? null : { routerLogits: null, draws },
    tile.options,
    host.signal,
  );
  await writeNamed(host.store.file(tile.key), gradients, { loss });
  return sequences.ids.length;
}

export async function doHeldOut(tile: TileOf<"held-out">, host: TileHost, seat: StudentSeat): Promise<number> {
  const all = await host.sequences(tile.text);
  const { executor, head } = await seat.with(tile, all.sequenceLength, host);
  const sequences = sliceSequences(all, tile.from, tile.to);
  const numbers = Array.from({ length: sequences.numSequences }, (_, i) => tile.from + i);
  using hidden = await targetsOf(tile.targets, await host.model(tile.teacher), all, host).read(numbers);
  const { kl, nll } = await heldOutRows(executor, head, sequences, hidden, host.signal);
  await writeNamed(host.store.file(tile.key), new Map(Object.entries({ kl, nll })));
  return sequences.ids.length;
}

export async function doTargets(tile: TileOf<"targets">, host: TileHost): Promise<number> {
  const teacher = await host.model(tile.model);
  const sequences = sliceSequences(await host.sequences(tile.text), tile.from, tile.to);
  const { runtime, scratchDirectory: directory, signal, onChunk } = host;
  const route = teacherRoutes(tile.routing ?? undefined, teacher.description, tile.seed)[tile.draw]!;
  if (tile.layers !== undefined) return targetsThroughLayers({ ...tile, layers: tile.layers }, route, sequences, host);
  const targets = await TeacherTargets.prepare({
    ...{ teacher, sequences, runtime, directory, signal, route, firstSequence: tile.from, stage: "calibrate" },
    report: onChunk,
  });
  try {
    using hidden = targets.all(sequences.numSequences);
    await writeNamed(host.store.file(tile.key), new Map([["hidden", hidden.read(0, hidden.numTokens)]]));
  } finally {
    await targets.remove();
  }
  return sequences.ids.length;
}

async function targetsThroughLayers(
  tile: TileOf<"targets"> & { layers: LayerRange },
  route: TeacherRoute,
  sequences: TokenSequences,
  host: TileHost,
): Promise<number> {
  const { checkpoint, description } = await host.model(tile.model);
  const draws = route.draw ? new KeyedDraws(route.draw, sequences.sequenceLength) : null;
  if (draws) draws.firstSequence = tile.from;
  let values = new Map<string, Float32Array>();
  const model = { checkpoint, description: route.description ?? description };
  const tokens = await throughLayers(tile, model, sequences, host, draws ?? {}, async (hidden, { sessions, plan }) => {
    await new VocabularyHead(model, sessions, plan.headPositions).normalise(hidden, host.signal);
    values = new Map([["hidden", hidden.read(0, hidden.numTokens)]]);
  });
  await writeNamed(host.store.file(tile.key), values);
  return tokens;
}

function targetsOf(name: string, teacher: OpenModel, { sequenceLength }: TokenSequences, { store }: TileHost) {
  const file = path.join(path.dirname(store.folder), name);
  return TeacherTargets.of(file, teacher.description.hiddenSize, sequenceLength);
}

/** Writes what trains for the time that tiles read it. */
async function withParameters<T>(
  { store }: TileDesk,
  parameters: ReadonlyMap<string, Float32Array>,
  work: (file: InputFile) => Promise<T>,
): Promise<T> {
  const name = `parameters-${contentKey([...parameters]).slice(0, 16)}.safetensors`;
  const file = path.join(store.folder, name);
  await writeNamed(file, parameters);
  const result = await work({ name, sha256: await hashOfFile(file) });
  await rm(file, { force: true });
  return result;
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => (made ??= make());
}
