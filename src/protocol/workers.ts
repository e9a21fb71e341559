import { z } from "zod";

/**
 * A run whose work is spread over workers, as its coordinator sees it. `workers.json` of the run folder is the latest status,
 * rewritten at most once a second; `workers.jsonl` is the timeline, one line a finished tile. Both are written by the coordinator
 * alone, by its own clock; a run without a queue has neither.
 */

/** What tiles are parts of. */
export const tilePasses = ["profile", "cosines", "targets", "gradient", "held-out", "evaluate", "compress"] as const;
export type TilePass = (typeof tilePasses)[number];

/** What a tile covers: sequences [from, to) of the text, or of a batch or layers of the model, by `unit`. */
export const tileBounds = z.object({
  unit: z.enum(["sequences", "batch", "layers"]),
  from: z.int().min(0),
  to: z.int().min(0),
});
export type TileBounds = z.infer<typeof tileBounds>;

/** One part of a model's layers, such as 2/8. */
const layersPart = z.string().max(20);

export const tileInHand = z.object({
  pass: z.enum(tilePasses),
  bounds: tileBounds,
  /** Where the run cuts the layers into parts. */
  layers: layersPart.optional(),
});
export type TileInHand = z.infer<typeof tileInHand>;

export const workerStates = ["idle", "working", "lost", "left"] as const;

export const workerStatus = z.object({
  name: z.string().max(200),
  host: z.string().max(200),
  threads: z.int().min(0),
  /** Bytes of `--memory`, or what it took by itself. */
  memoryBytes: z.number().min(0),
  /** First 12 digits of its numerics fingerprint. */
  numerics: z.string().max(64),
  /** onnxruntime, provider and processor, for people. */
  about: z.string().max(300),
  /** Whether it may work on this run's tiles; the reason where it may not. */
  eligible: z.boolean(),
  reason: z.string().nullable(),
  /** lost: gave no sign of life for a while, without leaving. left: it was told to stop. */
  state: z.enum(workerStates),
  tile: tileInHand.nullable(),
  /** Since when it has that state or tile (ISO 8601, the coordinator's clock). */
  since: z.string(),
  /** Tiles of this run that it did; of a queue alone: since it began. */
  tiles: z.int().min(0),
  /** Of these, those that had been begun before, by it or by another. */
  repeated: z.int().min(0),
  tokensPerSecond: z.number().min(0).nullable(),
  /** The one part of the layers that it keeps to, such as 2/8; absent: it takes what there is. */
  layers: layersPart.optional(),
});
export type WorkerStatus = z.infer<typeof workerStatus>;

/** One pass over tiles: `done + left` are all of it that are known so far (an update of Router KD adds its own). */
export const passStatus = z.object({
  pass: z.enum(tilePasses),
  done: z.int().min(0),
  left: z.int().min(0),
  /** Times that a tile was begun again. */
  repeated: z.int().min(0),
  /** Seconds that workers spent on tiles of it. */
  tileSeconds: z.number().min(0),
  /** Seconds from its first tile to its last, the coordinator's own work in between included. */
  wallSeconds: z.number().min(0),
});
export type PassStatus = z.infer<typeof passStatus>;

/** workers.json */
export const workersFile = z.object({
  schemaVersion: z.literal(1),
  /** ISO 8601. */
  at: z.string(),
  /** False once the run has ended or stopped; the last status stays. */
  running: z.boolean(),
  /** The queue's URL without its password. */
  queue: z.string(),
  /** First 12 digits of the numerics that the run needs, and the coordinator's machine. */
  numerics: z.string(),
  about: z.string(),
  workers: z.array(workerStatus),
  passes: z.array(passStatus),
});
export type WorkersFile = z.infer<typeof workersFile>;

/** One line of workers.jsonl: a finished tile, or a worker that came or went. */
export const timelineLine = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("tile"),
    worker: z.string().max(200),
    pass: z.enum(tilePasses),
    bounds: tileBounds,
    layers: layersPart.optional(),
    /** First 12 digits of the tile's key. */
    tile: z.string().max(64),
    /** ISO 8601, the coordinator's clock; `start` is `end` less the seconds of work. */
    start: z.string(),
    end: z.string(),
    processorSeconds: z.number().min(0),
    tokens: z.int().min(0),
    /** Size of its file. */
    bytes: z.int().min(0),
    /** Whether it had been begun before and was begun again. */
    repeated: z.boolean(),
    /** Set where it was computed elsewhere a second time and had the same bytes (`--verify`). */
    verified: z.boolean().optional(),
  }),
  z.object({
    kind: z.literal("worker"),
    worker: z.string().max(200),
    at: z.string(),
    event: z.enum(["joined", "lost", "left"]),
  }),
]);
export type TimelineLine = z.infer<typeof timelineLine>;

/** Lines that workers.jsonl keeps: at twice as many, the older half is taken away. */
export const keptTimelineLines = 20_000;

/** A run's status and its timeline, oldest line first. */
export interface RunWorkers {
  status: WorkersFile;
  timeline: TimelineLine[];
}

/** Where a queue is. The URL holds the password, so it is kept in a secret storage, and never written, logged or shown. */
export interface QueueChoice {
  url: string;
  /** Speak to a server on another machine without encryption. */
  insecure?: boolean;
  /** Workers to start on this machine for as long as the work takes; default 1. */
  localWorkers?: number;
  /** Parts that profile, teacher targets and evaluations are cut into by layers, 1 to 1024; default 1. */
  layerParts?: number;
  /** Share of tiles, 0 to 1, that another worker computes again, to compare their bytes; default 0. */
  verify?: number;
}

/** A queue and the workers at it, whatever runs there are: what `reroute doctor --queue` prints. */
export interface QueueStatus {
  /** The URL without its password. */
  queue: string;
  /** Numerics of this machine's runs, 12 digits. */
  numerics: string;
  about: string;
  checks: { name: string; state: "ok" | "warning" | "problem"; detail: string; code?: string }[];
  workers: WorkerStatus[];
}
