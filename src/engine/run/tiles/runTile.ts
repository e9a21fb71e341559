import { stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { quote } from "../../checkpoint/quote";
import { sliceSequences, type TokenSequences } from "../../data/sequences";
import { lossAndGradients } from "../../distillation/losses";
import { TeacherTargets } from "../../distillation/teacherTargets";
import { pickSequences } from "../../execution/batches";
import { leavesOf } from "../../execution/leaves";
import { ModelExecutor } from "../../execution/modelExecutor";
import { profileCheckpoint } from "../../execution/profile";
import { headsAreEqual, VocabularyHead } from "../../execution/vocabularyHead";
import { RoutingStatistics } from "../../routing/collect";
import { TokenSampler } from "../../routing/tokenSampler";
import { moeLayers } from "../../model/moeLayers";
import { withRoundedActivations } from "../../model/roundedActivations";
import { observedByAll } from "../../execution/observer";
import { saveRoutingStatistics } from "../../routing/statisticsFile";
import type { RuntimeOptions } from "../../runtime/session";
import { openModel } from "../modelCache";
import type { OpenModel } from "../work";
import { readNamed, readTileText, writeNamed } from "./inputFiles";
import type { Tile, TileOf, TileResult } from "./tile";
import { hashOfFile, tilesFolder, TileStore } from "./tileStore";

/** Where this machine sees what the coordinator names by its own paths. @throws RerouteError run/invalid outside the roots */
export type MapPath = (path: string) => string;

export interface TileRunnerOptions {
  worker: string;
  runtime: RuntimeOptions;
  mapPath: MapPath;
  scratchDirectory: string;
  signal: AbortSignal;
  /** Called after each chunk of a layer. */
  onChunk?: () => void;
}

interface OpenStudent {
  executor: ModelExecutor;
  head: VocabularyHead;
}

/** Works tiles off one after another; keeps models, texts and compiled sessions between them. */
export class TileRunner {
  readonly #models = new Map<string, Promise<OpenModel>>();
  #text: { sha256: string; sequences: TokenSequences } | null = null;
  #student: { key: string; open: OpenStudent } | null = null;
  #parameters: string | null = null;

  constructor(readonly options: TileRunnerOptions) {}

  /** @throws RerouteError checkpoint/changed, run/invalid, and what the work raises */
  async run(tile: Tile): Promise<TileResult> {
    const started = { at: performance.now(), cpu: process.cpuUsage() };
    const store = new TileStore(this.options.mapPath(tile.folder));
    if (path.basename(store.folder) !== tilesFolder) throw invalid(`it would write into ${quote(store.folder)}`);
    const found = await store.find(tile.key);
    if (found !== null) return found;
    const sequences = await this.#sequences(store, tile);
    const tokens =
      tile.kind === "profile"
        ? await this.#profile(tile, sequences, store.file(tile.key))
        : await this.#gradients(tile, sequences, store);
    const file = store.file(tile.key);
    const cpu = process.cpuUsage(started.cpu);
    const result = {
      ...{ key: tile.key, bytes: (await stat(file)).size, sha256: await hashOfFile(file), tokens },
      ...{ worker: this.options.worker, seconds: (performance.now() - started.at) / 1e3 },
      ...{ processorMs: (cpu.user + cpu.system) / 1e3, attempts: 1 },
    };
    await store.record(result);
    return result;
  }

  async close(): Promise<void> {
    await this.#student?.open.executor.close();
    this.#student = null;
  }

  async #profile(tile: TileOf<"profile">, all: TokenSequences, file: string): Promise<number> {
    const model = await this.#model(tile.model);
    const sequences = sliceSequences(all, tile.from, tile.to);
    const { renormalises } = tile;
    const { fingerprint } = model;
    const statistics = new RoutingStatistics({ checkpoint: fingerprint, fingerprint, sequences, renormalises });
    const sampler = new TokenSampler(sequences, moeLayers(model.description).length);
    const { runtime, scratchDirectory, signal, onChunk } = this.options;
    await profileCheckpoint({
      ...{ ...model, sequences, observer: observedByAll([statistics, sampler]), collectOutputs: true },
      ...{ runtime, scratchDirectory, signal, report: () => onChunk?.() },
    });
    await saveRoutingStatistics(file, { ...statistics.result(), samples: sampler.samples() });
    return sequences.ids.length;
  }

  async #gradients(tile: TileOf<"gradient">, all: TokenSequences, store: TileStore): Promise<number> {
    const { executor, head } = await this.#open(tile, all.sequenceLength);
    if (this.#parameters !== tile.parameters.sha256) {
      const { values } = await readNamed(await store.input(tile.parameters));
      for (const [key, { length }] of executor.parameters)
        if (values.get(key)?.length !== length)
          throw invalid(`its parameters have no ${quote(key)} of ${length} numbers`);
      for (const [key, array] of values) executor.parameters.set(key, array);
      this.#parameters = tile.parameters.sha256;
    }
    const sequences = pickSequences(all, tile.numbers);
    const { hiddenSize } = (await this.#model(tile.teacher)).description;
    const draws = tile.targets.map((name) =>
      TeacherTargets.of(path.join(path.dirname(store.folder), name), hiddenSize, all.sequenceLength),
    );
    const { loss, gradients } = await lossAndGradients(
      executor,
      head,
      { sequences, numbers: tile.numbers, numTargets: tile.numTargets },
      draws.length === 0 ? null : { routerLogits: null, draws },
      tile.options,
      this.options.signal,
    );
    await writeNamed(store.file(tile.key), gradients, { loss });
    return sequences.ids.length;
  }

  /** The student's executor, kept from tile to tile. */
  async #open(
    { student: ofStudent, teacher: ofTeacher, options: { activations } }: TileOf<"gradient">,
    sequenceLength: number,
  ): Promise<OpenStudent> {
    const key = `${ofStudent.fingerprint} ${ofTeacher.fingerprint} ${sequenceLength} ${activations ?? "exact"}`;
    if (this.#student?.key === key) return this.#student.open;
    await this.close();
    this.#parameters = null;
    const [stored, teacher] = [await this.#model(ofStudent), await this.#model(ofTeacher)];
    const student = withRoundedActivations(stored, activations);
    const { runtime, scratchDirectory } = this.options;
    const opened = { ...student, sequenceLength, runtime, scratchDirectory, direction: "backward" } as const;
    const executor = await ModelExecutor.open(opened);
    const sharedHead = await headsAreEqual(student, teacher);
    const source = { source: teacher, sharedHead };
    const head = new VocabularyHead(student, executor.sessions, executor.plan.headPositions, source, executor.trained);
    this.#student = { key, open: { executor, head } };
    return this.#student.open;
  }

  async #model({ path: place, fingerprint }: { path: string; fingerprint: string }): Promise<OpenModel> {
    const folder = this.options.mapPath(place);
    const opened = this.#models.get(folder) ?? openModel(folder);
    this.#models.set(folder, opened);
    const model = await opened.catch((error: unknown) => {
      this.#models.delete(folder);
      throw error;
    });
    if (model.fingerprint === fingerprint) return model;
    this.#models.delete(folder);
    throw new RerouteError(
      "checkpoint/changed",
      `The checkpoint ${quote(folder)} has the fingerprint ${model.fingerprint} here, the run works with ${fingerprint}; make the same checkpoint visible at this path, or map it with --map`,
    );
  }

  async #sequences(store: TileStore, { text }: Tile): Promise<TokenSequences> {
    if (this.#text?.sha256 !== text.sha256)
      this.#text = { sha256: text.sha256, sequences: await readTileText(await store.input(text)) };
    return this.#text.sequences;
  }
}

/** Sequences of a tile of a profile: few enough that 16 tiles are made where there are leaves for them, at most four leaves. */
export function profileTiles(
  numSequences: number,
  sequenceLength: number,
): { from: number; to: number; leaves: number }[] {
  const { sequences, perBlock } = leavesOf(sequenceLength);
  const numLeaves = Math.ceil(numSequences / sequences);
  const most = Math.min(4, perBlock, Math.max(1, numLeaves / 16));
  const leaves = 2 ** Math.floor(Math.log2(most));
  return Array.from({ length: Math.ceil(numLeaves / leaves) }, (_, i) => ({
    ...{ from: i * leaves * sequences, to: Math.min(numSequences, (i + 1) * leaves * sequences) },
    leaves: Math.min(leaves, numLeaves - i * leaves),
  }));
}

function invalid(problem: string): RerouteError {
  return new RerouteError("run/invalid", `The tile cannot be worked on: ${problem}; start the run again`);
}
