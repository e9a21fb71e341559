import { z } from "zod";
import { writeFileAtomically } from "../../../checkpoint/atomicFile";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../../../checkpoint/safetensorsFile";
import { readSmallFile } from "../../../checkpoint/smallFile";
import { sliceSequences, type TokenSequences } from "../../../data/sequences";
import { mappingsOf, runStudent, runTeacher, type EvaluateOptions, type ModelRun } from "../../../evaluation/modelRuns";
import { PassMeter } from "../../../evaluation/passMeter";
import { RouterTrace } from "../../../evaluation/routerTrace";
import { nextTokens } from "../../../execution/batches";
import { leavesOf } from "../../../execution/leaves";
import { MemoryHiddenStates } from "../../../execution/hiddenStates";
import { VocabularyHead } from "../../../execution/vocabularyHead";
import { withRoundedActivations } from "../../../model/roundedActivations";
import { fidelitySums, RoutingFidelity } from "../../../routing/fidelity";
import { residentBytes } from "../../machine/machine";
import type { HeavyWork } from "../../work";
import { writeTileJson, writeTileText } from "../inputFiles";
import type { TileOf, TileResult } from "../tile";
import { leafTiles } from "../tileCuts";
import { ask, namedModel, tileOf, type TileDesk, type TileHost } from "./tileHost";

/** What a pass took: beside the tile, whose bytes it does not decide. */
const measured = z.object({
  chunks: z.array(z.object({ tokens: z.number(), seconds: z.number() })),
  peakMemoryBytes: z.number(),
});
const expertMapping = z.record(z.string(), z.array(z.array(z.int().min(0))));
const maxJsonBytes = 2 ** 26;

/**
 * The passes of one model over the text, a tile a leaf: of a teacher alone with what its students are compared with, whose tiles
 * stay; of a student against them.
 */
export async function askEvaluation(p: Parameters<HeavyWork["evaluate"]>[0], desk: TileDesk): Promise<ModelRun> {
  const { model, teacher, sequences, report } = p;
  const { folder } = desk.store;
  const text = await writeTileText(folder, sequences);
  const slices = leafTiles(sequences.numSequences, sequences.sequenceLength, 1).map(({ from, to }) => ({ from, to }));
  const total = sequences.ids.length;
  let done = 0;
  const count = ({ tokens }: TileResult) =>
    report({ stage: "evaluate", message: "Evaluating", done: (done += tokens), total, unit: "tokens" });
  const rounded = p.activations === undefined ? {} : { activations: p.activations };
  const ofTeacher = slices.map((slice) =>
    tileOf(desk, "evaluate-teacher", {
      ...{ model: namedModel(teacher ?? model), text, ...slice },
      ...(teacher === null ? rounded : {}),
    }),
  );
  if (teacher === null) {
    await Promise.all(ofTeacher.map(async (tile) => count(await ask(tile, desk))));
    return joined(ofTeacher, sequences, p, desk);
  }
  const mapping = p.expertMapping && (await writeTileJson(folder, "mapping", p.expertMapping));
  const tiles = await Promise.all(
    ofTeacher.map(async (before) => {
      const { key, sha256 } = await ask(before, desk);
      const { text, from, to } = before;
      const against = { name: `${key}.safetensors`, sha256 };
      const tile = tileOf(desk, "evaluate", {
        ...{ model: namedModel(model), teacher: namedModel(teacher), text, from, to, against, mapping, ...rounded },
      });
      count(await ask(tile, desk));
      return tile;
    }),
  );
  const run = await joined(tiles, sequences, p, desk);
  for (const { key } of tiles) await desk.store.remove(key);
  return run;
}

/** Rows one after another, routing by the tree over leaves. */
async function joined(
  tiles: readonly TileOf<"evaluate" | "evaluate-teacher">[],
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
  for (const { key, from, kind } of tiles) {
    const { tensors, metadata } = await readSafetensorsFile(store.file(key));
    for (const name of ["nll", "kl", "agreement"] as const) {
      const found = tensors.get(name);
      if (found) rows[name].set(new Float32Array(found.data.slice().buffer), from * sequenceLength);
    }
    const { chunks, peakMemoryBytes } = measured.parse(await json(store.extra(key)));
    run.chunks.push(...chunks);
    run.peakMemoryBytes = Math.max(run.peakMemoryBytes, peakMemoryBytes);
    if (kind === "evaluate-teacher") continue;
    for (const sums of z.array(fidelitySums).parse(JSON.parse(metadata["routing"]!))) {
      const { layer } = sums;
      const fidelity = layers.get(layer) ?? new RoutingFidelity(layer, mappings.get(layer)!, leavesOf(sequenceLength));
      layers.set(layer, fidelity);
      fidelity.addLeaves(sums, 1);
    }
  }
  if (tiles[0]?.kind !== "evaluate") return run;
  const routing = [...layers.values()].sort((a, b) => a.layer - b.layer).map((layer) => layer.result());
  return { ...run, kl: rows.kl, agreement: rows.agreement, routing };
}

export async function doTeacher(tile: TileOf<"evaluate-teacher">, host: TileHost): Promise<number> {
  const options = await optionsOf(tile, host, null);
  const { model, sequences, signal } = options;
  const { labels } = nextTokens(sequences);
  const meter = new PassMeter(residentBytes, sequences.ids.length);
  let nll = new Float32Array(0);
  let seen = meter.measured();
  const run = await runTeacher(model, options, meter, {
    keepsTrace: true,
    measure: async ({ sessions, plan }, hidden) => {
      nll = new Float32Array(await new VocabularyHead(model, sessions, plan.headPositions).nll(hidden, labels, signal));
      seen = meter.measured();
    },
  });
  using hidden = run.hidden;
  try {
    const { numTokens, width } = hidden;
    const tensors = new Map<string, MemoryTensor>([
      ["nll", { dtype: "F32", shape: [numTokens], data: nll }],
      ["hidden", { dtype: "F32", shape: [numTokens, width], data: hidden.read(0, numTokens) }],
    ]);
    for (const layer of run.trace.layers()) {
      const { logits, selected, k } = run.trace.read(layer, 0, numTokens)!;
      tensors.set(`logits.${layer}`, { dtype: "F32", shape: [numTokens, logits.length / numTokens], data: logits });
      tensors.set(`selected.${layer}`, { dtype: "I32", shape: [numTokens, k], data: selected });
    }
    await writeFileAtomically(host.store.extra(tile.key), JSON.stringify(seen));
    await writeSafetensorsFile(host.store.file(tile.key), tensors);
  } finally {
    run.trace.close();
  }
  return sequences.ids.length;
}

export async function doEvaluation(tile: TileOf<"evaluate">, host: TileHost): Promise<number> {
  const teacher = await host.model(tile.teacher);
  const mapping = tile.mapping && expertMapping.parse(await json(await host.store.input(tile.mapping)));
  const options = { ...(await optionsOf(tile, host, teacher)), expertMapping: mapping };
  const { sequences } = options;
  const { tensors } = await readSafetensorsFile(await host.store.input(tile.against));
  const numbersOf = (name: string) => tensors.get(name)!.data.slice().buffer;
  const numTokens = sequences.ids.length;
  const hidden = new MemoryHiddenStates(numTokens, teacher.description.hiddenSize);
  hidden.write(0, new Float32Array(numbersOf("hidden")));
  const trace = new RouterTrace(numTokens, host.scratchDirectory, true);
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
  const run = await runStudent(options, { source: teacher, hidden, trace }, nextTokens(sequences).labels);
  const rows = Object.entries({ nll: run.nll, kl: run.kl!, agreement: run.agreement! });
  const { chunks, peakMemoryBytes } = run;
  await writeFileAtomically(host.store.extra(tile.key), JSON.stringify({ chunks, peakMemoryBytes }));
  await writeSafetensorsFile(
    host.store.file(tile.key),
    new Map(rows.map(([name, data]) => [name, { dtype: "F32", shape: [data.length], data }])),
    { routing: JSON.stringify(run.routingSums) },
  );
  return numTokens;
}

async function json(file: string): Promise<unknown> {
  return JSON.parse(Buffer.from(await readSmallFile(file, maxJsonBytes)).toString("utf8"));
}

async function optionsOf(
  tile: TileOf<"evaluate" | "evaluate-teacher">,
  host: TileHost,
  teacher: EvaluateOptions["teacher"],
): Promise<EvaluateOptions> {
  const { runtime, scratchDirectory, signal, onChunk } = host;
  const sequences = sliceSequences(await host.sequences(tile.text), tile.from, tile.to);
  const model = withRoundedActivations(await host.model(tile.model), tile.activations);
  return {
    ...{ model, teacher, sequences, expertMapping: null, runtime, scratchDirectory, residentBytes, signal },
    report: onChunk,
  };
}
