import type { PanelWorker, WorkersPanelData } from "../../src/protocol/workersPanel";
import { t } from "../common/translate";

/** What workers can be put in order by. */
export const orders = ["name", "state", "busy", "tiles"] as const;
export type Order = (typeof orders)[number];

/** More lanes than these could not be told apart: the first ones of the order are drawn. */
export const mostLanes = 300;

const stateRank: Record<PanelWorker["state"], number> = { lost: 0, working: 1, idle: 2, left: 3 };

/** Places of the workers that have all of the words in name, host, state or reason, in order. Of equals, the host keeps its own together. */
export function arranged(workers: readonly PanelWorker[], words: string, order: Order): number[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const text = workers.map(({ name, host, state, reason, layers }) =>
    [
      name,
      host,
      state,
      ...(layers === null ? [] : [`${t("Layers")} ${layers}`]),
      ...(reason === null ? [] : [t("not eligible"), reason]),
    ]
      .join(" ")
      .toLowerCase(),
  );
  const places = workers.map((_, i) => i).filter((i) => wanted.every((word) => text[i]!.includes(word)));
  // Workers come in order of their names.
  const rank: Record<Order, (worker: PanelWorker) => number> = {
    name: () => 0,
    state: ({ state, reason }) => (reason === null ? stateRank[state] : -1),
    busy: (worker) => busyShare(worker) ?? 2,
    tiles: ({ tiles }) => -tiles,
  };
  return places.sort((a, b) => rank[order](workers[a]!) - rank[order](workers[b]!) || a - b);
}

/** Share of a worker's time that it spent on tiles; null where it was not there. */
export function busyShare({ tileSeconds, presentSeconds }: PanelWorker): number | null {
  return presentSeconds > 0 ? Math.min(1, tileSeconds / presentSeconds) : null;
}

/** Share of a worker's processor time that went into tiles that count; null where it is not known. */
export function efficiencyOf({ processorSeconds, presentSeconds, threads }: PanelWorker): number | null {
  return presentSeconds > 0 && threads > 0 ? processorSeconds / (presentSeconds * threads) : null;
}

/** Tiles of each worker, by their places in the columns, in order of time. */
export function tilesByWorker({ workers, tiles }: WorkersPanelData): number[][] {
  const lanes = workers.map((): number[] => []);
  for (const [tile, worker] of tiles.worker.entries()) lanes[worker]?.push(tile);
  return lanes;
}

/**
 * Tokens a second of each pass in equal parts of the time, each tile's tokens spread over its seconds. Nothing of a pass before its
 * first tile and after its last.
 */
export function throughput(
  data: WorkersPanelData,
  parts = 120,
): { pass: number; points: { x: number; y: number }[] }[] {
  const { tiles, passes, seconds } = data;
  if (seconds <= 0) return [];
  const width = seconds / parts;
  const sums = passes.map(() => new Float64Array(parts));
  for (const [i, pass] of tiles.pass.entries()) {
    const [start, length, tokens] = [Math.max(0, tiles.start[i]!), tiles.seconds[i]!, tiles.tokens[i]!];
    const end = start + length;
    const [first, last] = [part(start), part(end)];
    for (let at = first; at <= last; at++) {
      // The last part has what rounding puts behind the end.
      const to = at === parts - 1 ? end : Math.min(end, (at + 1) * width);
      const inside = to - Math.max(start, at * width);
      // A tile of no length is all in one part.
      sums[pass]![at]! += length > 0 ? (tokens * Math.max(0, inside)) / length : tokens;
    }
  }
  return sums.flatMap((all, pass) => {
    const used = [...all.keys()].filter((at) => all[at]! > 0);
    if (used.length === 0) return [];
    const span = Array.from({ length: used.at(-1)! - used[0]! + 1 }, (_, i) => used[0]! + i);
    return [{ pass, points: span.map((at) => ({ x: (at + 0.5) * width, y: all[at]! / width })) }];
  });

  function part(at: number): number {
    return Math.min(parts - 1, Math.max(0, Math.floor(at / width)));
  }
}
