import { z } from "zod";
import { tileInHand, type WorkerStatus } from "../../../protocol/workers";
import { RerouteError } from "../../../protocol/errors";
import { tileProtocol, type LayerRange } from "../tiles/tile";
import type { Notes } from "./notes";

/** The part of a model's layers that tiles are about: number `part`, from 0, of `parts`. */
export type LayersServed = Pick<LayerRange, "part" | "parts">;

/** The queue that only workers with these numerics listen to: of tiles of all layers, or of one part of them. */
export function queueName(numerics: string, layers?: LayersServed): string {
  const ofPart = layers === undefined ? "" : `-${layers.part + 1}of${layers.parts}`;
  return `reroute-${tileProtocol}-${numerics.slice(0, 12)}${ofPart}`;
}

/** Part of the layers that a worker is to keep to, such as 2/8. @throws RerouteError arguments/invalid */
export function parseLayersServed(text: string): LayersServed {
  const [, number, parts] = (/^(\d+)\/(\d+)$/.exec(text) ?? []).map(Number);
  if (number !== undefined && parts !== undefined && number >= 1 && number <= parts && parts >= 2 && parts <= 1024)
    return { part: number - 1, parts };
  throw new RerouteError(
    "arguments/invalid",
    `--layers is ${JSON.stringify(text)}; give one part of a number of parts, such as 2/8`,
  );
}

/** Seconds that a worker is believed to be there after it last said so. */
export const presenceSeconds = 45;

/** What a worker says about itself. */
export const presence = z.object({
  name: z.string().max(200),
  host: z.string().max(200),
  threads: z.int().min(0),
  memoryBytes: z.number().min(0),
  numerics: z.string().max(64),
  /** onnxruntime, provider and processor, for people. */
  about: z.string().max(300),
  /** What it works on; null: it waits. */
  tile: tileInHand.nullable(),
  /** ISO 8601, its own clock: since when. */
  since: z.string().max(40),
  /** Counts its signs of life. */
  beat: z.int().min(0),
  tiles: z.int().min(0),
  tokensPerSecond: z.number().nullable(),
  /** The one part of the layers that it keeps to, such as 2/8; absent: it takes what there is. */
  layers: z.string().max(20).optional(),
});
export type Presence = z.infer<typeof presence>;

export async function announce(notes: Notes, worker: Presence): Promise<void> {
  await notes.put("worker", worker.name, JSON.stringify(worker), presenceSeconds);
}

export async function leave(notes: Notes, name: string): Promise<void> {
  await notes.drop("worker", name);
}

/** Workers that are there, by name; what is not understood is left out. */
export async function workersThere(notes: Notes): Promise<Presence[]> {
  return understood(presence, await notes.all("worker"));
}

/** A run that waits for workers. */
const runPresence = z.object({
  name: z.string().max(200),
  numerics: z.string().max(64),
  about: z.string().max(300),
  /** Milliseconds since 1970, by the clock of its machine. */
  at: z.number(),
  /** Parts that it cuts the layers into. */
  layerParts: z.int().min(1).max(1024).default(1),
});
type RunPresence = z.infer<typeof runPresence>;

/** Says what a run needs of workers, so that those that may not work on it can say why. */
export async function announceRun(notes: Notes, run: z.input<typeof runPresence>): Promise<void> {
  await notes.put("run", run.name, JSON.stringify(run), presenceSeconds);
}

export async function runsThere(notes: Notes): Promise<RunPresence[]> {
  return understood(runPresence, await notes.all("run"));
}

function understood<T>(schema: z.ZodType<T>, texts: readonly string[]): T[] {
  return texts.flatMap((text) => {
    const parsed = schema.safeParse(json(text));
    return parsed.success ? [parsed.data] : [];
  });
}

/** Why a worker may not work on tiles that need these numerics; null: it may. */
export function notEligible(worker: Pick<Presence, "numerics" | "about">, needed: string): string | null {
  if (worker.numerics === needed) return null;
  return `its arithmetic gives other bits (numerics ${worker.numerics.slice(0, 12)}, ${worker.about})`;
}

/** What a worker says of itself, as hosts show it. */
export function statusOf({ beat: _, ...worker }: Presence, needed: string): WorkerStatus {
  const reason = notEligible(worker, needed);
  return {
    ...worker,
    numerics: worker.numerics.slice(0, 12),
    ...{ eligible: reason === null, reason, repeated: 0, state: worker.tile === null ? "idle" : "working" },
  };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
