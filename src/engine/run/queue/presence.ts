import { z } from "zod";
import { tileInHand, type WorkerStatus } from "../../../protocol/workers";
import { tileProtocol } from "../tiles/tile";
import type { QueueAddress } from "./queueAddress";

/** The queue that only workers with these numerics listen to. */
export function queueName(numerics: string): string {
  return `reroute-${tileProtocol}-${numerics.slice(0, 12)}`;
}

const [prefix, names] = ["reroute:worker:", "reroute:workers"];

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
});
export type Presence = z.infer<typeof presence>;

/** The part of ioredis that is used. */
export interface KeyValue {
  set: (key: string, value: string, unit: "EX", seconds: number) => Promise<unknown>;
  del: (key: string) => Promise<unknown>;
  sadd: (key: string, member: string) => Promise<unknown>;
  srem: (key: string, ...members: string[]) => Promise<unknown>;
  smembers: (key: string) => Promise<string[]>;
  mget: (...keys: string[]) => Promise<(string | null)[]>;
  info: (section: string) => Promise<string>;
  disconnect: () => void;
}

/** A connection for what BullMQ does not do. Troubles are told of and got over. */
export async function openClient(
  { connection, shown }: QueueAddress,
  onTrouble: (message: string) => void,
): Promise<KeyValue> {
  const { Redis } = await import("./clients");
  const client = new Redis(connection);
  client.on("error", (error: Error) => onTrouble(`queue ${shown}: ${error.message}`));
  return client;
}

export async function announce(client: KeyValue, worker: Presence): Promise<void> {
  await client.set(prefix + worker.name, JSON.stringify(worker), "EX", presenceSeconds);
  await client.sadd(names, worker.name);
}

export async function leave(client: KeyValue, name: string): Promise<void> {
  await client.del(prefix + name);
  await client.srem(names, name);
}

/** Workers that are there, by name; what is not understood is left out. */
export async function workersThere(client: KeyValue): Promise<Presence[]> {
  const all = (await client.smembers(names)).sort();
  if (all.length === 0) return [];
  const values = await client.mget(...all.map((name) => prefix + name));
  const gone = all.filter((_, i) => values[i] === null);
  if (gone.length > 0) await client.srem(names, ...gone);
  return values.flatMap((value) => {
    const parsed = presence.safeParse(json(value ?? "null"));
    return parsed.success ? [parsed.data] : [];
  });
}

const runsKey = "reroute:runs";

/** A run that waits for workers. */
const runPresence = z.object({
  name: z.string().max(200),
  numerics: z.string().max(64),
  about: z.string().max(300),
  /** Milliseconds since 1970, by the clock of its machine. */
  at: z.number(),
});
type RunPresence = z.infer<typeof runPresence>;

/** Says what a run needs of workers, so that those that may not work on it can say why. */
export async function announceRun(client: KeyValue, run: RunPresence): Promise<void> {
  await client.set(`${runsKey}:${run.name}`, JSON.stringify(run), "EX", presenceSeconds);
  await client.sadd(runsKey, run.name);
}

export async function runsThere(client: KeyValue): Promise<RunPresence[]> {
  const all = (await client.smembers(runsKey)).sort();
  if (all.length === 0) return [];
  const values = await client.mget(...all.map((name) => `${runsKey}:${name}`));
  const gone = all.filter((_, i) => values[i] === null);
  if (gone.length > 0) await client.srem(runsKey, ...gone);
  return values.flatMap((value) => {
    const parsed = runPresence.safeParse(json(value ?? "null"));
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
