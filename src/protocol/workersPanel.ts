import * as z from "zod/mini";

/**
 * Workers page: how a run's work was spread, from workers.json and workers.jsonl. Times are seconds from `start`. Written with
 * zod/mini, because pages carry it; the long columns are checked by one loop each.
 */

const number = z.number();
const int = z.int();
const column = z.custom<number[]>(
  (value) => Array.isArray(value) && value.every((v) => typeof v === "number" && Number.isFinite(v)),
  "expected an array of finite numbers",
);

export const panelWorker = z.object({
  name: z.string(),
  host: z.string(),
  /** 0: not known any more. */
  threads: int,
  about: z.string(),
  state: z.enum(["idle", "working", "lost", "left"]),
  /** Why it gets no tiles of this run; null: it may. */
  reason: z.nullable(z.string()),
  /** The one part of the layers that it keeps to, such as 2/8; null: it takes what there is. */
  layers: z.nullable(z.string()),
  /** What it works on, in words; null: nothing. */
  tile: z.nullable(z.string()),
  tiles: int,
  repeated: int,
  tokensPerSecond: z.nullable(number),
  /** Seconds that it was there, that it spent on tiles, and of processor time for tiles that count. */
  presentSeconds: number,
  tileSeconds: number,
  processorSeconds: number,
});
export type PanelWorker = z.infer<typeof panelWorker>;

export const panelPass = z.object({
  pass: z.string(),
  done: int,
  left: int,
  repeated: int,
  tileSeconds: number,
  wallSeconds: number,
});

export const workersPanelData = z
  .object({
    running: z.boolean(),
    /** The queue's URL without its password. */
    queue: z.string(),
    about: z.string(),
    /** ISO 8601: second 0. */
    start: z.string(),
    /** To the last tile's end, or to now while the run works. */
    seconds: number,
    workers: z.array(panelWorker),
    passes: z.array(panelPass),
    /** Finished tiles in order of time, column by column; `worker` and `pass` are places in the lists above. */
    tiles: z.object({
      worker: column,
      pass: column,
      start: column,
      seconds: column,
      processorSeconds: column,
      tokens: column,
      bytes: column,
      /** 1: begun before, and again. */
      repeated: column,
      from: column,
      to: column,
      /** Place in `units`. */
      unit: column,
    }),
    units: z.array(z.string()),
    events: z.array(z.object({ worker: int, at: number, event: z.enum(["joined", "lost", "left"]) })),
    /** Share of the workers' processor time that went into tiles that count; null before the first. */
    efficiency: z.nullable(number),
    /** Share of the time that workers were there for that they spent on tiles. */
    busy: z.nullable(number),
  })
  .check(
    z.refine(
      ({ tiles }) => Object.values(tiles).every(({ length }) => length === tiles.worker.length),
      "columns of tiles must be equally long",
    ),
  );
export type WorkersPanelData = z.infer<typeof workersPanelData>;
