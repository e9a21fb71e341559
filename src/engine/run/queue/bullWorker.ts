import { hostname } from "node:os";
import type { Job } from "bullmq";
import { RerouteError } from "../../../protocol/errors";
import { tileSchema, type Tile, type TileResult } from "../tiles/tile";
import { inHand, partName } from "../tiles/tileBounds";
import { within } from "./bullCarrier";
import { EngineSlot, type EngineSlotOptions } from "./engineSlot";
import { bullAt, sayTrouble } from "./bull";
import { openNotes } from "./openNotes";
import {
  announce,
  leave,
  notEligible,
  presenceSeconds,
  queueName,
  runsThere,
  type LayersServed,
  type Presence,
} from "./presence";
import type { QueueAddress } from "./queueAddress";

export interface WorkerOptions extends EngineSlotOptions {
  address: QueueAddress;
  /** Ends after so long without a tile; null: never. */
  idleExitSeconds: number | null;
  /** Seconds without a sign of life after which a worker's tile goes to another. */
  lockSeconds: number;
  /** Keeps to tiles of this part of the layers; absent: takes what there is. */
  layers?: LayersServed;
  signal: AbortSignal;
  log: (message: string) => void;
}

/** Milliseconds that a worker waits for another tile of the layers that it has, before it looks at others. */
const stayMs = 200;

/** What the user has to correct: no other attempt gets further. */
const hopeless = /^(arguments|checkpoint|model|data|plan|recipe|preflight|teacher|training)\//;

/**
 * Computes tiles from a queue until it is told to stop. This process only talks: it holds the tile's lock, which a process
 * that computes would lose, and starts another that computes. Told to stop, it gives its tile back at once.
 * @throws RerouteError queue/unavailable, runtime/unavailable, and what the first start of the engine raises
 */
export async function serveQueue(options: WorkerOptions): Promise<void> {
  const { address, name, idleExitSeconds, lockSeconds, signal, log, layers } = options;
  const { UnrecoverableError, DelayedError } = await import("./clients");
  const { shown } = address;
  const bull = await bullAt(address, sayTrouble(address, log));
  const engine = new EngineSlot(options);
  /** Aborted where this worker can do no more tiles. */
  const unfit = new AbortController();
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  const workers = new Map<string, ReturnType<typeof bull.worker>>();
  const isLeaving = () => signal.aborted || unfit.signal.aborted;
  /** It would else take up again what it gives back, before it is gone. */
  const takeNoMore = () => {
    for (const worker of workers.values()) void worker.pause(true);
  };
  unfit.signal.addEventListener("abort", takeNoMore);
  void stopped.then(takeNoMore).then(() => engine.stop());
  const { hash: numerics, about, rowsAreIndependent } = await engine.numerics();
  if (!rowsAreIndependent) log(`warning: on this machine rows depend on the rows beside them; ${about}`);
  const state: Omit<Presence, "name" | "numerics" | "about"> = {
    ...{ host: hostname(), threads: options.runtime.threads, memoryBytes: options.runtime.memoryBudgetBytes },
    ...{ tile: null, since: new Date().toISOString(), beat: 0, tiles: 0, tokensPerSecond: null },
    ...(layers === undefined ? {} : { layers: partName(layers) }),
  };
  let lastTile = Date.now();
  let tell = () => {};
  const turnTo = (tile: Tile | null) => {
    state.tile = tile && inHand(tile);
    state.since = new Date().toISOString();
    lastTile = Date.now();
    tell();
  };

  const work = async (job: Job<unknown, TileResult>, token?: string): Promise<TileResult> => {
    const tile = tileSchema.safeParse(job.data);
    if (!tile.success || tile.data.numerics !== numerics)
      throw new UnrecoverableError(`${name}: the job is no tile of this version`);
    if (tile.data.again === name) {
      // For another worker; this one looks again when that may have had the time.
      await job.moveToDelayed(Date.now() + 500, token);
      throw new DelayedError();
    }
    if (state.tile !== null) {
      // Of two queues at once: this one's goes back.
      await job.moveToDelayed(Date.now(), token);
      throw new DelayedError();
    }
    turnTo(tile.data);
    stay(job.queueName);
    try {
      const result = await engine.run(tile.data);
      state.tiles++;
      state.tokensPerSecond = result.tokens / result.seconds;
      log(`${tile.data.kind} ${tile.data.key.slice(0, 8)}: ${result.tokens} tokens in ${result.seconds.toFixed(1)} s`);
      return { ...result, attempts: Math.max(1, job.attemptsStarted) };
    } catch (error) {
      if (signal.aborted) {
        await job.moveToDelayed(Date.now(), token);
        throw new DelayedError();
      }
      const code = error instanceof RerouteError ? error.code : "internal";
      const message = `${name}: ${code}: ${error instanceof Error ? error.message : String(error)}`;
      log(message);
      // A full disk stays full: others may have room.
      if (code === "output/write-failed") unfit.abort();
      throw hopeless.test(code) ? new UnrecoverableError(message) : new Error(message);
    } finally {
      turnTo(null);
      setTimeout(() => state.tile === null && !isLeaving() && lookAtAll(), stayMs);
    }
  };
  const serve = (queue: string) => {
    const known = workers.get(queue);
    const worker =
      known ??
      bull.worker(queue, work, {
        ...{ concurrency: 1, maxStalledCount: 5 },
        ...{ lockDuration: lockSeconds * 1000, stalledInterval: Math.max(1, lockSeconds / 2) * 1000 },
      });
    workers.set(queue, worker);
    if (known === undefined && (state.tile !== null || isLeaving())) void worker.pause(true);
    return worker;
  };
  /** Works on one queue for as long as it has tiles: their layers are in this machine's page cache. */
  const stay = (queue: string) => {
    for (const [of, worker] of workers) if (of !== queue) void worker.pause(true);
  };
  const lookAtAll = () => {
    for (const worker of workers.values()) if (worker.isPaused()) void worker.resume();
  };
  const worker = serve(queueName(numerics, layers));
  let wasThere = false;
  try {
    await within(15, worker.waitUntilReady(), shown);
    wasThere = true;
    log(`${name} waits for tiles at ${shown}; ${about}, numerics ${numerics.slice(0, 12)}`);
    const notes = await openNotes(address, log);
    const say = () => {
      state.beat++;
      return announce(notes, { name, numerics, about, ...state }).catch(() => undefined);
    };
    let saidAt = Date.now();
    // Changes of tile are told of at once, but short ones not one by one.
    tell = () => {
      if (Date.now() - saidAt < 1000) return;
      saidAt = Date.now();
      void say();
    };
    const told = new Set<string>();
    const look = async () => {
      await say();
      for (const run of await runsThere(notes).catch(() => [])) {
        const reason = notEligible({ numerics, about }, run.numerics);
        const parts = reason === null && layers === undefined && run.layerParts > 1 ? run.layerParts : 0;
        for (let part = 0; part < parts; part++) serve(queueName(numerics, { part, parts }));
        if (reason === null || told.has(run.name)) continue;
        told.add(run.name);
        log(`not eligible for the run of ${run.name} (${run.about}): ${reason}`);
      }
    };
    await look();
    const telling = setInterval(() => void look(), (presenceSeconds / 3) * 1000);
    const idle = new Promise<void>((resolve) => {
      if (idleExitSeconds === null) return;
      const isIdle = () => state.tile === null && Date.now() - lastTile > idleExitSeconds * 1000;
      setInterval(() => isIdle() && resolve(), 200).unref();
    });
    const ended = new Promise<void>((resolve) => unfit.signal.addEventListener("abort", () => resolve()));
    await Promise.race([stopped, idle, ended]);
    tell = () => {};
    clearInterval(telling);
    await leave(notes, name).catch(() => undefined);
    notes.close();
  } finally {
    engine.stop();
    // One that never met its server would go on trying to.
    const closed = [...workers.values()].map((one) => one.close(!wasThere));
    await Promise.race([Promise.all(closed), new Promise((resolve) => setTimeout(resolve, 5000).unref())]);
  }
}
