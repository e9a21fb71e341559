import { z } from "zod";
import { tileProtocol } from "../tiles/tile";
import type { QueueAddress } from "./queueAddress";

/** The queue that only workers with these numerics listen to. */
export function queueName(numerics: string): string {
  return `reroute-${tileProtocol}-${numerics.slice(0, 12)}`;
}

const prefix = "reroute:worker:";

/** Seconds that a worker is believed to be there after it last said so. */
export const presenceSeconds = 45;

/** What a worker says about itself. */
export const presence = z.object({
  name: z.string().max(200),
  numerics: z.string().max(64),
  /** onnxruntime, provider and processor, for people. */
  about: z.string().max(300),
  /** Kind of the tile that it works on; null: it waits. */
  tile: z.string().max(40).nullable(),
  tiles: z.int().min(0),
  tokensPerSecond: z.number().nullable(),
});
export type Presence = z.infer<typeof presence>;

/** The part of ioredis that is used. */
export interface KeyValue {
  set: (key: string, value: string, unit: "EX", seconds: number) => Promise<unknown>;
  del: (key: string) => Promise<unknown>;
  keys: (pattern: string) => Promise<string[]>;
  get: (key: string) => Promise<string | null>;
  info: (section: string) => Promise<string>;
  disconnect: () => void;
}

/** A connection for what BullMQ does not do. Troubles are told of and got over. */
export async function openClient(
  { connection, shown }: QueueAddress,
  onTrouble: (message: string) => void,
): Promise<KeyValue> {
  const { Redis } = await import("ioredis");
  const client = new Redis(connection);
  client.on("error", (error: Error) => onTrouble(`queue ${shown}: ${error.message}`));
  return client;
}

export async function announce(client: KeyValue, worker: Presence): Promise<void> {
  await client.set(prefix + worker.name, JSON.stringify(worker), "EX", presenceSeconds);
}

export async function leave(client: KeyValue, name: string): Promise<void> {
  await client.del(prefix + name);
}

/** Workers that are there, by name; what is not understood is left out. */
export async function workersThere(client: KeyValue): Promise<Presence[]> {
  const found: Presence[] = [];
  for (const key of (await client.keys(`${prefix}*`)).sort()) {
    const parsed = presence.safeParse(json((await client.get(key)) ?? "null"));
    if (parsed.success) found.push(parsed.data);
  }
  return found;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
