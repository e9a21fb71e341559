import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import type { Tile, TileResult } from "./tile";
import { appearsWithin, type TileStore } from "./tileStore";

/** Has tiles computed, wherever that is. */
export interface Carrier {
  /** The numerics that its workers must have. */
  readonly numerics: string;
  /**
   * Resolves with a tile's result once its file is there. May be asked for many at once, in the order in which they are
   * wanted most.
   */
  carry: (tile: Tile, store: TileStore, signal: AbortSignal) => Promise<TileResult>;
  /** Forgets a result whose file was not whole, so that the tile is worked on again. */
  forget: (tile: Tile) => Promise<void>;
  /** Has some tiles done elsewhere a second time: whether this one was. @throws RerouteError queue/differs */
  verify?: (tile: Tile, result: TileResult, store: TileStore, signal: AbortSignal) => Promise<boolean>;
  close: () => Promise<void>;
}

/** What computes tiles one after another. */
interface Runner {
  run: (tile: Tile) => Promise<TileResult>;
  close: () => Promise<void>;
}

/** This process alone, one tile after another. */
export function inProcessCarrier(runner: Runner, numerics: string): Carrier {
  let last: Promise<unknown> = Promise.resolve();
  return {
    numerics,
    carry: (tile, _, signal) => {
      const result = last.then(() => {
        throwIfCancelled(signal);
        return runner.run(tile);
      });
      last = result.catch(() => undefined);
      return result;
    },
    forget: () => Promise.resolve(),
    close: () => runner.close(),
  };
}

/** Times that a tile may come back damaged before the run gives up. */
const mostAttempts = 5;

/** Told of what becomes of tiles. */
export interface TileEvents {
  /** A tile is wanted. */
  asked: (tile: Tile) => void;
  /** A tile is there; null: from before. `attempts`: times that it was begun for this. */
  done: (tile: Tile, result: TileResult | null, attempts: number, verified?: boolean) => void;
  /** A tile is given up. */
  dropped: (tile: Tile) => void;
}

/**
 * A whole tile: found in the folder, or carried until its file is what its worker said.
 * @throws RerouteError queue/failed
 */
export async function wholeTile(
  tile: Tile,
  store: TileStore,
  carrier: Carrier,
  signal: AbortSignal,
  events: TileEvents,
): Promise<TileResult> {
  events.asked(tile);
  try {
    let begun = 0;
    for (let attempt = 1; attempt <= mostAttempts; attempt++) {
      const found = await store.find(tile.key);
      if (found !== null) {
        events.done(tile, null, begun);
        return found;
      }
      const result = await carrier.carry(tile, store, signal);
      begun += result.attempts;
      // The message may be there before the file on a network folder.
      if (result.key === tile.key && (await store.isWhole(result, appearsWithin))) {
        // As a rule its worker has said so before.
        if (!(await store.isRecorded(tile.key))) await store.record(result);
        const verified = (await carrier.verify?.(tile, result, store, signal)) ?? false;
        events.done(tile, result, begun, ...(verified ? [true] : []));
        return result;
      }
      await store.remove(tile.key);
      await carrier.forget(tile);
    }
  } catch (error) {
    events.dropped(tile);
    throw error;
  }
  events.dropped(tile);
  throw new RerouteError(
    "queue/failed",
    `${store.file(tile.key)} was damaged ${mostAttempts} times in a row; check the folder that workers and coordinator share`,
  );
}
