import type { BackendFactory, ConnectionOptions, Processor, RedisQueueBackend, WorkerOptions } from "bullmq";
import type { Tile, TileResult } from "../tiles/tile";
import type { QueueAddress } from "./queueAddress";

/** BullMQ's classes for a server of either kind. Every one has an `error` listener, or Node would end the process. */
export async function bullAt(address: QueueAddress, onTrouble: (error: Error) => void) {
  const { Queue, QueueEvents, Worker, createPostgresBackend } = await import("./clients");
  // Types of connection and backend are Redis' throughout; undefined is Redis, too.
  const connection = address.connection as ConnectionOptions;
  const factory = address.kind === "postgres" ? createPostgresBackend : undefined;
  const backend = factory as unknown as BackendFactory<RedisQueueBackend>;
  return {
    queue: (name: string) => new Queue<Tile, unknown>(name, { connection }, backend).on("error", onTrouble),
    events: (name: string) => new QueueEvents(name, { connection }, backend).on("error", onTrouble),
    worker: (name: string, work: Processor<unknown, TileResult>, options: Omit<WorkerOptions, "connection">) =>
      new Worker<unknown, TileResult>(name, work, { ...options, connection }, backend).on("error", onTrouble),
  };
}
