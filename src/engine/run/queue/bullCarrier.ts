import { setMaxListeners } from "node:events";
import type { Job } from "bullmq";
import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import type { Carrier } from "../tiles/carrier";
import { jobOf, tileResult, type Tile, type TileResult } from "../tiles/tile";
import type { TileStore } from "../tiles/tileStore";
import { bullAt, sayTrouble } from "./bull";
import { queueName } from "./presence";
import type { QueueAddress } from "./queueAddress";

interface Waiting {
  tile: Tile;
  store: TileStore;
  resolve: (result: TileResult) => void;
  reject: (error: RerouteError) => void;
}

export interface BullCarrierOptions {
  address: QueueAddress;
  numerics: string;
  /** Connection troubles, which BullMQ gets over by itself. */
  onTrouble: (message: string) => void;
  /** Seconds between looks at tiles of which nothing was heard: the queue may have lost them, or its message. */
  lookEverySeconds?: number;
}

/** Tiles that are looked at each time. */
const mostLooks = 32;

/** An update of Router KD waits for all of its tiles, which are at most so many; its events are told of one by one. */
const fewTiles = 16;
const longestPauseMs = 250;

/** Milliseconds between two readings of events: each costs the same, however many it brings, and hundreds of tiles end in a second. */
function pauseFor(tiles: number): number {
  return Math.min(longestPauseMs, Math.max(0, tiles - fewTiles));
}

/**
 * Tiles by BullMQ: jobs hold names and hashes alone and are named by the tile's key. The queue is a cache: what it forgets
 * is added again, and a tile whose file is there is done, whatever the queue says.
 * @throws RerouteError queue/unavailable
 */
export async function openBullCarrier(options: BullCarrierOptions): Promise<Carrier> {
  const { address, numerics, onTrouble, lookEverySeconds = 5 } = options;
  const { shown } = address;
  const trouble = sayTrouble(address, onTrouble);
  const bull = await bullAt(address, trouble);
  const waiting = new Map<string, Waiting>();
  const settle = (key: string, how: (of: Waiting) => void) => {
    const of = waiting.get(key);
    if (of && waiting.delete(key)) how(of);
  };
  const done = (key: string, value: unknown) => {
    const parsed = tileResult.safeParse(value);
    if (parsed.success && parsed.data.key === waiting.get(key)?.tile.key)
      settle(key, ({ resolve }) => resolve(parsed.data));
  };
  const failed = (key: string, reason: string) => settle(key, ({ reject }) => reject(workerFailed(reason)));
  /** A queue with what is told of its jobs: of tiles of all layers, and of each part of them that a run has. */
  const open = (name: string) => {
    const [queue, events] = [bull.queue(name), bull.events(name, () => pauseFor(waiting.size))];
    events.on("completed", ({ jobId, returnvalue }) => done(jobId, valueOf(returnvalue)));
    events.on("failed", ({ jobId, failedReason }) => failed(jobId, failedReason));
    return { queue, events };
  };
  const lanes = new Map<string, ReturnType<typeof open>>();
  const laneNamed = (name: string) => {
    const lane = lanes.get(name) ?? open(name);
    lanes.set(name, lane);
    return lane;
  };
  const queueOf = (tile: Tile) => laneNamed(queueName(numerics, "layers" in tile ? tile.layers : undefined)).queue;

  const add = (tile: Tile) =>
    queueOf(tile).add(tile.kind, tile, {
      jobId: jobOf(tile),
      attempts: 4,
      backoff: { type: "exponential", delay: 1000 },
      removeOnComplete: { age: 3600 },
      removeOnFail: { age: 3600 },
    });
  /** Adds a tile that the queue does not know, and takes up what it knows of one. */
  const look = async (key: string) => {
    const { tile, store } = waiting.get(key)!;
    const found = tile.again === undefined ? await store.find(key) : null;
    if (found !== null) {
      done(key, found);
      return;
    }
    const state = await queueOf(tile).getJobState(key);
    if (state === "unknown") await add(tile);
    if (state !== "completed" && state !== "failed") return;
    const job = (await queueOf(tile).getJob(key)) as Job | undefined;
    if (state === "completed") done(key, job?.returnvalue);
    else if (job !== undefined) failed(key, job.failedReason);
  };
  const timer = setInterval(() => {
    // Those that were looked at longest ago: a few at a time, so that hundreds of workers cost no more than a few do.
    for (const [key, of] of [...waiting].slice(0, mostLooks)) {
      waiting.delete(key);
      waiting.set(key, of);
      look(key).catch(trouble);
    }
  }, lookEverySeconds * 1000);

  const close = async () => {
    clearInterval(timer);
    const all = [...lanes.values()].flatMap(({ queue, events }) => [queue.close(), events.close()]);
    await Promise.all(all).catch(() => undefined);
  };
  const { queue, events } = laneNamed(queueName(numerics));
  try {
    await within(15, Promise.all([queue.waitUntilReady(), events.waitUntilReady()]), shown);
  } catch (error) {
    clearInterval(timer);
    // Not disconnect(), which waits for a connection that there has never been.
    await Promise.allSettled([queue.close(), events.getBackend().close()]);
    throw error;
  }
  return {
    numerics,
    carry: (tile, store, signal) => {
      throwIfCancelled(signal);
      return new Promise<TileResult>((resolve, reject) => {
        const stop = () => {
          if (waiting.delete(jobOf(tile))) reject(new RerouteError("cancelled", "cancelled while workers were at it"));
        };
        // One listener a tile, of which there may be hundreds.
        setMaxListeners(0, signal);
        signal.addEventListener("abort", stop, { once: true });
        const end = () => signal.removeEventListener("abort", stop);
        waiting.set(jobOf(tile), {
          ...{ tile, store },
          resolve: (result) => {
            end();
            resolve(result);
          },
          reject: (error) => {
            end();
            reject(error);
          },
        });
        enter(tile).catch(trouble);
      });
    },
    forget: async (tile) => {
      await (await queueOf(tile).getJob(jobOf(tile)))?.remove();
    },
    close: async () => {
      // What nobody waits for any more is not to be worked on.
      const left = [...waiting].map(async ([key, { tile }]) => (await queueOf(tile).getJob(key))?.remove());
      await Promise.race([Promise.allSettled(left), new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
      await close();
    },
  };

  /** A job that was done or failed before stays under its name, and adding it again would do nothing. */
  async function enter(tile: Tile): Promise<void> {
    const state = await queueOf(tile).getJobState(jobOf(tile));
    if (state === "completed" || state === "failed") await queueOf(tile).remove(jobOf(tile));
    await add(tile);
  }
}

function workerFailed(reason: string): RerouteError {
  return new RerouteError(
    "queue/failed",
    `A worker could not do its part of the work: ${reason}. Correct that, then run again: what is done is kept`,
  );
}

/** A job's value as it comes with an event: JSON, or already read. */
function valueOf(value: unknown): unknown {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return null;
  }
}

/** @throws RerouteError queue/unavailable */
export async function within<T>(seconds: number, work: Promise<T>, shown: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `The queue ${shown} did not answer within ${seconds} seconds; check that the server runs and can be reached from here, then run again`;
    timer = setTimeout(() => reject(new RerouteError("queue/unavailable", message)), seconds * 1000);
  });
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    if (error instanceof RerouteError) throw error;
    throw new RerouteError("queue/unavailable", `The queue ${shown} cannot be used: ${String(error)}`, {
      cause: error,
    });
  } finally {
    clearTimeout(timer);
  }
}
