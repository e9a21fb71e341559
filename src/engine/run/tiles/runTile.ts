import { stat } from "node:fs/promises";
import path from "node:path";
import { errorCodeOf, RerouteError } from "../../../protocol/errors";
import { quote } from "../../checkpoint/quote";
import type { TokenSequences } from "../../data/sequences";
import type { RuntimeOptions } from "../../runtime/session";
import { tilesFolder } from "../folder/leftovers";
import { openModel } from "../modelCache";
import type { OpenModel } from "../work";
import { readTileText, type InputFile } from "./inputFiles";
import { doGradients, doHeldOut, doTargets } from "./kinds/calibrationTiles";
import { doCosines } from "./kinds/cosinesTile";
import { doEvaluation, doTeacher } from "./kinds/evaluationTiles";
import { doLayer } from "./kinds/layerTile";
import { doProfile } from "./kinds/profileTile";
import { StudentSeat } from "./kinds/studentSeat";
import type { NamedModel, TileHost } from "./kinds/tileHost";
import type { Tile, TileResult } from "./tile";
import { hashOfFile, TileStore } from "./tileStore";

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

/** Texts that are kept: a run works with those of training and of the held-out evaluations in turn. */
const keptTexts = 3;

/** Computes tiles one after another; keeps models, texts and compiled sessions between them. */
export class TileRunner {
  readonly #models = new Map<string, Promise<OpenModel>>();
  readonly #texts = new Map<string, TokenSequences>();
  readonly #seat = new StudentSeat();

  constructor(readonly options: TileRunnerOptions) {}

  /** @throws RerouteError checkpoint/changed, run/invalid, and what the work raises */
  async run(tile: Tile): Promise<TileResult> {
    const started = { at: performance.now(), cpu: process.cpuUsage() };
    let store = new TileStore(this.options.mapPath(tile.folder));
    if (path.basename(store.folder) !== tilesFolder)
      throw new RerouteError(
        "run/invalid",
        `The tile cannot be worked on: it would write into ${quote(store.folder)}; start the run again`,
      );
    if (tile.again === undefined) {
      const found = await store.find(tile.key);
      if (found !== null) return found;
    } else store = store.again();
    const own = store.own();
    const host = this.#host(own);
    const tokens = await this.#work(tile, host).catch(async (error: unknown) => {
      if (errorCodeOf(error) !== "checkpoint/changed") throw error;
      // Written anew since it was opened here, as by a run that was begun again; what is another one now fails again.
      this.#models.clear();
      await this.#seat.close();
      return this.#work(tile, host);
    });
    await own.give(tile.key, store);
    const cpu = process.cpuUsage(started.cpu);
    const beside = async (file: string) => partOf(file).catch(() => null);
    const [extra, hidden] = [await beside(store.extra(tile.key)), await beside(store.handed(tile.key))];
    const result = {
      ...{
        key: tile.key,
        ...(await partOf(store.file(tile.key))),
        ...(extra === null ? {} : { extra }),
        ...(hidden === null ? {} : { hidden }),
        tokens,
      },
      ...{ worker: this.options.worker, seconds: (performance.now() - started.at) / 1e3 },
      ...{ processorMs: (cpu.user + cpu.system) / 1e3, attempts: 1 },
    };
    await store.record(result);
    return result;
  }

  async close(): Promise<void> {
    await this.#seat.close();
  }

  /** @returns the tokens that were worked on */
  #work(tile: Tile, host: TileHost): Promise<number> {
    switch (tile.kind) {
      case "profile":
        return doProfile(tile, host);
      case "gradient":
        return doGradients(tile, host, this.#seat);
      case "held-out":
        return doHeldOut(tile, host, this.#seat);
      case "targets":
        return doTargets(tile, host);
      case "evaluate-teacher":
        return doTeacher(tile, host);
      case "evaluate":
        return doEvaluation(tile, host);
      case "cosines":
        return doCosines(tile, host);
      case "compress":
        return doLayer(tile, host);
    }
  }

  #host(store: TileStore): TileHost {
    const { runtime, scratchDirectory, signal, onChunk = () => undefined } = this.options;
    return {
      ...{ runtime, store, scratchDirectory, signal, onChunk },
      model: (named) => this.#model(named),
      sequences: (text) => this.#sequences(store, text),
    };
  }

  async #model({ path: place, fingerprint }: NamedModel): Promise<OpenModel> {
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

  async #sequences(store: TileStore, text: InputFile): Promise<TokenSequences> {
    const known = this.#texts.get(text.sha256) ?? (await readTileText(await store.input(text)));
    // The one that was used last goes last.
    this.#texts.delete(text.sha256);
    this.#texts.set(text.sha256, known);
    for (const [oldest] of this.#texts) if (this.#texts.size > keptTexts) this.#texts.delete(oldest);
    return known;
  }
}

async function partOf(file: string): Promise<{ bytes: number; sha256: string }> {
  return { bytes: (await stat(file)).size, sha256: await hashOfFile(file) };
}
