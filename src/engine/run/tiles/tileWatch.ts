import { writeFile } from "node:fs/promises";
import path from "node:path";
import { runFiles } from "../../../protocol/run";
import type { PassStatus, RunWorkers, TilePass, WorkersFile, WorkerStatus } from "../../../protocol/workers";
import type { TileEvents } from "./carrier";
import { inHand } from "./tileBounds";
import type { Tile, TileResult } from "./tile";
import { readRunWorkers, TimelineFile } from "./timelineFile";

/** What a coordinator knows of a worker that says that it is there. */
export type SeenWorker = Omit<WorkerStatus, "state" | "since" | "tiles" | "repeated"> & {
  /** Changes with every sign of life. */
  beat: number;
};

export interface TileWatchOptions {
  /** Run folder that status and timeline are written to. */
  directory: string;
  /** The queue without its password; what this machine's runs need. */
  queue: string;
  numerics: string;
  about: string;
  /** Milliseconds since 1970. */
  now?: () => number;
  /** Seconds without a sign of life after which a worker counts as lost. */
  lostAfterSeconds?: number;
}

interface Known {
  status: WorkerStatus;
  beat: number;
  heardAt: number;
}

/** Milliseconds between two writes of the status, at least. */
const writeEveryMs = 1000;
/** Of workers that are gone, as many as are worth showing. */
const mostGone = 100;

/** Keeps a run's workers.json and workers.jsonl: who is there, who works on what, which tiles are done. */
export class TileWatch implements TileEvents {
  readonly #workers = new Map<string, Known>();
  readonly #passes = new Map<TilePass, PassStatus & { since: number | null }>();
  /** Tiles that are counted as done, as the timeline names them. */
  readonly #counted = new Set<string>();
  readonly #timeline: TimelineFile;
  readonly #now: () => number;
  #writing: Promise<void> | null = null;
  #writtenAt = -Infinity;

  constructor(readonly options: TileWatchOptions) {
    this.#timeline = new TimelineFile(options.directory);
    this.#now = options.now ?? Date.now;
  }

  /** For a run that may have been spread before: its counts go on, as its timeline does. */
  static async open(options: TileWatchOptions): Promise<TileWatch> {
    const watch = new TileWatch(options);
    const before = await readRunWorkers(options.directory);
    if (before !== null) watch.#goOn(before);
    return watch;
  }

  /** Tiles that were asked for. */
  asked(tile: Tile): void {
    this.#pass(tile).left++;
    this.#changed();
  }

  /** A tile is there; null: it had been done before. Counted once, however often it is asked for. @param attempts times it was begun */
  done(tile: Tile, result: TileResult | null, attempts: number, verified?: boolean): void {
    const pass = this.#pass(tile);
    const now = this.#now();
    const name = nameOf(tile);
    const isAgain = this.#counted.has(name);
    this.#counted.add(name);
    pass.left--;
    if (!isAgain) pass.done++;
    pass.wallSeconds = (now - pass.since!) / 1e3;
    if (result !== null) {
      const repeated = Math.max(0, isAgain ? attempts : attempts - 1);
      pass.repeated += repeated;
      pass.tileSeconds += result.seconds;
      const known = this.#workers.get(result.worker);
      if (known) {
        known.status.tiles++;
        if (repeated > 0) known.status.repeated++;
        known.status.tokensPerSecond = result.tokens / Math.max(1e-3, result.seconds);
      }
      this.#timeline.append({
        ...{ kind: "tile", worker: result.worker, ...inHand(tile), tile: name },
        ...{ start: iso(now - result.seconds * 1e3), end: iso(now), processorSeconds: result.processorMs / 1e3 },
        ...{ tokens: result.tokens, bytes: result.bytes, repeated: repeated > 0 },
        ...(verified === undefined ? {} : { verified }),
      });
    }
    this.#changed();
  }

  /** A tile is no longer wanted. */
  dropped(tile: Tile): void {
    this.#pass(tile).left--;
  }

  /** Everyone who says that they are there, now. */
  see(workers: readonly SeenWorker[]): void {
    const now = this.#now();
    for (const { beat, ...seen } of workers) {
      const known = this.#workers.get(seen.name);
      if (known?.beat === beat) continue;
      const state = seen.tile === null ? ("idle" as const) : ("working" as const);
      const isSame = known !== undefined && JSON.stringify(known.status.tile) === JSON.stringify(seen.tile);
      const isBack = known === undefined || known.status.state === "lost" || known.status.state === "left";
      const { tiles = 0, repeated = 0, tokensPerSecond = seen.tokensPerSecond } = known?.status ?? {};
      const since = isSame && !isBack ? known.status.since : iso(now);
      const status = { ...seen, state, since, tiles, repeated, tokensPerSecond };
      this.#workers.set(seen.name, { status, beat, heardAt: now });
      if (isBack) this.#event(seen.name, "joined");
    }
    const there = new Set(workers.map(({ name }) => name));
    const lostAfterMs = (this.options.lostAfterSeconds ?? 60) * 1e3;
    for (const [name, { status, heardAt }] of this.#workers) {
      if (status.state === "lost" || status.state === "left") continue;
      const silence = now - heardAt;
      if (there.has(name) && silence <= lostAfterMs) continue;
      // Who leaves takes its name away; the name of one that died stays until the queue forgets it.
      const hasLeft = !there.has(name) && silence < lostAfterMs / 2;
      Object.assign(status, { state: hasLeft ? "left" : "lost", since: iso(now), tile: null });
      this.#event(name, hasLeft ? "left" : "lost");
    }
    this.#forgetGone();
    this.#changed();
  }

  status(running: boolean): WorkersFile {
    const { queue, numerics, about } = this.options;
    const passes = [...this.#passes.values()].map(({ since: _, ...pass }) => pass);
    const workers = [...this.#workers.values()].map(({ status }) => status);
    workers.sort((a, b) => (a.name < b.name ? -1 : 1));
    return {
      ...{ schemaVersion: 1 as const, at: iso(this.#now()), running, queue, about, workers, passes },
      numerics: numerics.slice(0, 12),
    };
  }

  /** Writes the last status; what was told of before is there then. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#timeline.written();
    await this.#write(false);
  }

  #pass(tile: Tile) {
    const { pass } = inHand(tile);
    const now = this.#now();
    const known = this.#passes.get(pass) ?? { ...noneOf(pass), since: null };
    // Not the time between a coordinator that ended and the next one.
    known.since ??= now - known.wallSeconds * 1e3;
    this.#passes.set(pass, known);
    return known;
  }

  #goOn({ status, timeline }: RunWorkers): void {
    for (const pass of status.passes) this.#passes.set(pass.pass, { ...pass, done: 0, left: 0, since: null });
    for (const line of timeline) {
      if (line.kind !== "tile" || this.#counted.has(line.tile)) continue;
      this.#counted.add(line.tile);
      const pass = this.#passes.get(line.pass) ?? { ...noneOf(line.pass), since: null };
      pass.done++;
      this.#passes.set(line.pass, pass);
    }
    // Old lines are taken away from a long timeline, and the last ones may be newer than the status.
    for (const { pass, done } of status.passes)
      this.#passes.get(pass)!.done = Math.max(done, this.#passes.get(pass)!.done);
  }

  #event(worker: string, event: "joined" | "lost" | "left"): void {
    this.#timeline.append({ kind: "worker", worker, at: iso(this.#now()), event });
  }

  #forgetGone(): void {
    const gone = [...this.#workers.values()].filter(({ status }) => status.state === "lost" || status.state === "left");
    gone.sort((a, b) => a.heardAt - b.heardAt);
    for (const { status } of gone.slice(0, Math.max(0, gone.length - mostGone))) this.#workers.delete(status.name);
  }

  #changed(): void {
    if (this.#writing !== null || this.#now() - this.#writtenAt < writeEveryMs) return;
    this.#writtenAt = this.#now();
    this.#writing = this.#write(true).finally(() => (this.#writing = null));
  }

  /** Not flushed: nothing is lost with it, and work never waits for it. */
  async #write(running: boolean): Promise<void> {
    const file = path.join(this.options.directory, runFiles.workers);
    await writeFile(file, `${JSON.stringify(this.status(running))}\n`).catch(() => undefined);
  }
}

function nameOf({ key }: Tile): string {
  return key.slice(0, 12);
}

function noneOf(pass: TilePass): PassStatus {
  return { pass, done: 0, left: 0, repeated: 0, tileSeconds: 0, wallSeconds: 0 };
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
