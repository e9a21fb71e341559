import { z } from "zod";
import { writeFileAtomically } from "../../../checkpoint/atomicFile";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../../../checkpoint/safetensorsFile";
import { readSmallFile } from "../../../checkpoint/smallFile";
import { sliceSequences, type TokenSequences } from "../../../data/sequences";
import { mappingsOf, type EvaluateOptions, type ModelRun } from "../../../evaluation/modelRuns";
import { PassMeter, type Measured } from "../../../evaluation/passMeter";
import { RouterTrace } from "../../../evaluation/routerTrace";
import { nextTokens, tokenBatch } from "../../../execution/batches";
import type { HeadSource } from "../../../execution/headGraphs";
import { MemoryHiddenStates, type HiddenStates } from "../../../execution/hiddenStates";
import { leavesOf } from "../../../execution/leaves";
import type { RoutingObserver } from "../../../execution/observer";
import { headsAreEqual, VocabularyHead } from "../../../execution/vocabularyHead";
import { withRoundedActivations } from "../../../model/roundedActivations";
import { fidelitySums, RoutingFidelity } from "../../../routing/fidelity";
import { residentBytes } from "../../machine/machine";
import type { HeavyWork, OpenModel } from "../../work";
import { writeTileJson, writeTileText } from "../inputFiles";
import type { LayerRange, TileOf } from "../tile";
import { leafTiles, type Slice } from "../tileCuts";
import { askThroughLayers, throughLayers } from "./layerParts";
import { namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** What a pass took: beside the tile, whose bytes it does not decide. */
const measured = z.object({
  chunks: z.array(z.object({ tokens: z.number(), seconds: z.number() })),
  peakMemoryBytes: z.number(),
});
const expertMapping = z.record(z.string(), z.array(z.array(z.int().min(0))));
const maxJsonBytes = 2 ** 26;

/**
 * The passes of one model over the text, a tile a leaf, or a part of the layers of one: of a teacher alone with what its students
 * are compared with, whose tiles stay; of a student against them, whose tiles stay until the next one's are there: a calibration
 * that keeps its student as it was leaves the same to be evaluated.
 *
 * @param lastStudent keys of the last student's tiles
 */
export async function askEvaluation(
  p: Parameters<HeavyWork["evaluate"]>[0],
  desk: TileDesk,
  lastStudent: Set<string>,
): Promise<ModelRun> {
  const { model, teacher, sequences, report } = p;
  const { folder } = desk.store;
  const text = await writeTileText(folder, sequences);
  const total = sequences.ids.length;
  let done = 0;
  const count = ({ from, to }: Slice) => {
    done += (to - from) * sequences.sequenceLength;
    report({ stage: "evaluate", message: "Evaluating", done, total, unit: "tokens" });
  };
  const rounded = p.activations === undefined ? {} : { activations: p.activations };
  const askTeacher = (slice: Slice) =>
    askThroughLayers((teacher ?? model).description, desk, (layers) =>
      tileOf(desk, "evaluate-teacher", {
        ...{ model: namedModel(teacher ?? model), text, ...slice, ...(layers && { layers }) },
        ...(teacher === null ? rounded : {}),
      }),
    );
  const mapping =
    teacher === null ? null : p.expertMapping && (await writeTileJson(folder, "mapping", p.expertMapping));
  const slices = leafTiles(sequences.numSequences, sequences.sequenceLength, 1).map(({ from, to }) => ({ from, to }));
  const tiles = await Promise.all(
    slices.map(async (slice): Promise<TileOf<"evaluate" | "evaluate-teacher">[]> => {
      const before = await askTeacher(slice);
      const own = teacher === null ? before : await askStudent(teacher, before);
      count(slice);
      return own.map(({ tile }) => tile);
    }),
  );
  const run = await joined(tiles, sequences, p, desk);
  if (teacher === null) return run;
  const own = new Set(tiles.flat().map(({ key }) => key));
  for (const key of lastStudent) if (!own.has(key)) await desk.store.remove(key);
  lastStudent.clear();
  for (const key of own) lastStudent.add(key);
  return run;

  function askStudent(of: OpenModel, before: Awaited<ReturnType<typeof askTeacher>>) {
    const { from, to } = before[0]!.tile;
    return askThroughLayers(model.description, desk, (layers) => {
      const against = before
        .filter(({ tile }) => isComparedWith([model, layers], [of, tile.layers]))
        .map(({ tile: { key }, result: { sha256 } }) => ({ name: `${key}.safetensors`, sha256 }));
      return tileOf(desk, "evaluate", {
        ...{ model: namedModel(model), teacher: namedModel(of), text, from, to, against, mapping },
        ...{ ...rounded, ...(layers && { layers }) },
      });
    });
  }
}

type LayersOf = readonly [model: Pick<OpenModel, "description">, layers: LayerRange | undefined];

/** Whether a student's tile reads a teacher's: they share layers with experts, or both are of the last ones. */
function isComparedWith(student: LayersOf, teacher: LayersOf): boolean {
  const [own, other] = [student, teacher].map(([{ description }, layers]) => {
    const inside = description.layers.slice(layers?.from, layers?.to);
    const routed = inside.flatMap(({ index, feedForward }) => (feedForward.kind === "moe" ? [index] : []));
    return { routed: new Set(routed), isLast: layers === undefined || layers.part + 1 === layers.parts };
  });
  return (own!.isLast && other!.isLast) || [...own!.routed].some((index) => other!.routed.has(index));
}

/** Rows one after another, routing by the tree over leaves. */
async function joined(
  tiles: readonly (readonly TileOf<"evaluate" | "evaluate-teacher">[])[],
  { ids, sequenceLength }: TokenSequences,
  options: Pick<EvaluateOptions, "model" | "expertMapping">,
  { store }: TileDesk,
): Promise<ModelRun> {
  const rows = {
    nll: new Float32Array(ids.length),
    kl: new Float32Array(ids.length),
    agreement: new Float32Array(ids.length),
  };
  const mappings = mappingsOf(options);
  const layers = new Map<number, RoutingFidelity>();
  const run: ModelRun = { nll: rows.nll, kl: null, agreement: null, routing: null, chunks: [], peakMemoryBytes: 0 };
  for (const parts of tiles) {
    const chunks: Measured["chunks"] = [];
    for (const { key, from, kind } of parts) {
      const { tensors, metadata } = await readSafetensorsFile(store.file(key));
      for (const name of ["nll", "kl", "agreement"] as const) {
        const found = tensors.get(name);
        if (found) rows[name].set(new Float32Array(found.data.slice().buffer), from * sequenceLength);
      }
      const seen = measured.parse(await json(store.extra(key)));
      chunks.push(...seen.chunks);
      run.peakMemoryBytes = Math.max(run.peakMemoryBytes, seen.peakMemoryBytes);
      if (kind === "evaluate-teacher") continue;
      for (const sums of z.array(fidelitySums).parse(JSON.parse(metadata["routing"]!))) {
        const { layer } = sums;
        const fidelity =
          layers.get(layer) ?? new RoutingFidelity(layer, mappings.get(layer)!, leavesOf(sequenceLength));
        layers.set(layer, fidelity);
        fidelity.addLeaves(sums, 1);
      }
    }
    run.chunks.push(...(parts.length === 1 ? chunks : throughAll(chunks, parts[0]!, sequenceLength)));
  }
  if (tiles[0]?.[0]?.kind !== "evaluate") return run;
  const routing = [...layers.values()].sort((a, b) => a.layer - b.layer).map((layer) => layer.result());
  return { ...run, kl: rows.kl, agreement: rows.agreement, routing };
}

/** Parts of the layers may have been cut into other chunks: together they are one. */
function throughAll(chunks: Measured["chunks"], { from, to }: Slice, sequenceLength: number): Measured["chunks"] {
  return [{ tokens: (to - from) * sequenceLength, seconds: chunks.reduce((sum, { seconds }) => sum + seconds, 0) }];
}

export async function doTeacher(tile: TileOf<"evaluate-teacher">, host: TileHost): Promise<number> {
  const { model, sequences } = await inputsOf(tile, host);
  const meter = new PassMeter(residentBytes, sequences.ids.length);
  const trace = new RouterTrace(sequences.ids.length, host.scratchDirectory, true);
  const tensors = new Map<string, MemoryTensor>();
  let seen: Measured | null = null;
  const tokens = await throughLayers(
    tile,
    model,
    sequences,
    host,
    observing(trace, meter, host),
    async (hidden, of) => {
      const head = new VocabularyHead(model, of.sessions, of.plan.headPositions);
      tensors.set("nll", float32Tensor(await head.nll(hidden, nextTokens(sequences).labels, host.signal)));
      seen = meter.measured();
      await head.normalise(hidden, host.signal);
      tensors.set("hidden", float32Tensor(hidden.read(0, hidden.numTokens), hidden.width));
    },
  );
  for (const layer of trace.layers()) {
    const { logits, selected, k } = trace.read(layer, 0, trace.numTokens)!;
    tensors.set(`logits.${layer}`, float32Tensor(logits, logits.length / trace.numTokens));
    tensors.set(`selected.${layer}`, { dtype: "I32", shape: [trace.numTokens, k], data: selected });
  }
  trace.close();
  await writeFileAtomically(host.store.extra(tile.key), JSON.stringify(seen ?? meter.measured()));
  await writeSafetensorsFile(host.store.file(tile.key), tensors);
  return tokens;
}

export async function doEvaluation(tile: TileOf<"evaluate">, host: TileHost): Promise<number> {
  const { model, sequences } = await inputsOf(tile, host);
  const teacher = await host.model(tile.teacher);
  const mapping = tile.mapping && expertMapping.parse(await json(await host.store.input(tile.mapping)));
  const numTokens = sequences.ids.length;
  const ofTeacher = new MemoryHiddenStates(numTokens, teacher.description.hiddenSize);
  const trace = new RouterTrace(numTokens, host.scratchDirectory, true);
  for (const input of tile.against) await readTeacher(await host.store.input(input), trace, ofTeacher);
  const { valid } = tokenBatch(sequences);
  const fidelity = trace.compareWith(mappingsOf({ model, expertMapping: mapping }), valid, sequences.sequenceLength);
  const meter = new PassMeter(residentBytes, numTokens);
  const rows = new Map<string, MemoryTensor>();
  const observed = observing(fidelity, meter, host);
  const tokens = await throughLayers(tile, model, sequences, host, observed, async (hidden, { sessions, plan }) => {
    const source = { source: teacher, sharedHead: await headsAreEqual(model, teacher) };
    const head = new VocabularyHead(model, sessions, plan.headPositions, source);
    const { nll, kl, agreement } = await head.compare(hidden, ofTeacher, nextTokens(sequences).labels, host.signal);
    for (const [name, data] of Object.entries({ nll, kl, agreement })) rows.set(name, float32Tensor(data));
  });
  trace.close();
  await writeFileAtomically(host.store.extra(tile.key), JSON.stringify(meter.measured()));
  await writeSafetensorsFile(host.store.file(tile.key), rows, { routing: JSON.stringify(fidelity.sums()) });
  return tokens;
}

/** What a teacher's tile says of its layers' routing and, of the last ones, of its final hidden states. */
async function readTeacher(file: string, trace: RouterTrace, final: HiddenStates): Promise<void> {
  const { tensors } = await readSafetensorsFile(file);
  const numbersOf = (name: string) => tensors.get(name)!.data.slice().buffer;
  if (tensors.has("hidden")) final.write(0, new Float32Array(numbersOf("hidden")));
  for (const name of tensors.keys()) {
    const [, layer] = /^logits\.(\d+)$/.exec(name) ?? [];
    if (layer === undefined) continue;
    const [numRouterRows, k] = [tensors.get(name)!.shape[1]!, tensors.get(`selected.${layer}`)!.shape[1]!];
    trace.add({
      ...{ layer: Number(layer), firstToken: 0, numRouterRows, numExpertsPerToken: k },
      routerLogits: new Float32Array(numbersOf(name)),
      selectedIds: new Int32Array(numbersOf(`selected.${layer}`)),
    });
  }
}

function observing(observer: RoutingObserver, meter: PassMeter, { onChunk }: TileHost) {
  const metered = (tokens: number) => {
    meter.onChunk(tokens);
    onChunk();
  };
  return { observer, onChunk: metered };
}

/** @param width of a row; absent: the array is one */
function float32Tensor(data: Float32Array, width?: number): MemoryTensor {
  return { dtype: "F32", shape: width === undefined ? [data.length] : [data.length / width, width], data };
}

async function json(file: string): Promise<unknown> {
  return JSON.parse(Buffer.from(await readSmallFile(file, maxJsonBytes)).toString("utf8"));
}

async function inputsOf(
  { text, from, to, model, activations }: TileOf<"evaluate" | "evaluate-teacher">,
  host: TileHost,
): Promise<{ model: HeadSource; sequences: TokenSequences }> {
  const sequences = sliceSequences(await host.sequences(text), from, to);
  return { model: withRoundedActivations(await host.model(model), activations), sequences };
}
