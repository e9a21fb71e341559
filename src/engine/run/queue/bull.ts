import type { BackendFactory, ConnectionOptions, Processor, RedisQueueBackend, WorkerOptions } from "bullmq";
import type { Tile, TileResult } from "../tiles/tile";
import type { QueueAddress } from "./queueAddress";

/** Says trouble with a queue, the same only once a minute: each attempt to connect fails with the same words. */
export function sayTrouble({ shown }: QueueAddress, say: (message: string) => void): (error: unknown) => void {
  let last = { message: "", at: -Infinity };
  return (error) => {
    const message = `queue ${shown}: ${error instanceof Error ? error.message : String(error)}`;
    if (message === last.message && Date.now() - last.at < 60_000) return;
    last = { message, at: Date.now() };
    say(message);
  };
}

/** BullMQ's classes for a server of either kind. Every one has an `error` listener, or Node would end the process. */
export async function bullAt(address: QueueAddress, onTrouble: (error: Error) => void) {
  const { Queue, QueueEvents, Worker, createPostgresBackend } = await import("./clients");
  // Types of connection and backend are Redis' throughout; undefined is Redis, too.
  const connection = address.connection as ConnectionOptions;
  const factory = address.kind === "postgres" ? createPostgresBackend : undefined;
  const backend = factory as unknown as BackendFactory<RedisQueueBackend>;
  return {
    queue: (name: string) => new Queue<Tile, unknown>(name, { connection }, backend).on("error", onTrouble),
    /** @param pause milliseconds to wait before more events are asked for, so that many are read at once */
    events: (name: string, pause: () => number) => {
      const events = new QueueEvents(name, { connection, autorun: false }, backend).on("error", onTrouble);
      const source = events.getBackend();
      const read = source.readEvents.bind(source);
      let isHearing = false;
      source.readEvents = async (...from) => {
        // Before the first event there is no place in the stream to go on from.
        const ms = isHearing ? pause() : 0;
        if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
        if (events.closing !== undefined) return null;
        const found = await read(...from);
        isHearing ||= (found?.length ?? 0) > 0;
        return found;
      };
      events.run().catch(onTrouble);
      return events;
    },
    worker: (name: string, work: Processor<unknown, TileResult>, options: Omit<WorkerOptions, "connection">) =>
      new Worker<unknown, TileResult>(name, work, { ...options, connection }, backend).on("error", onTrouble),
  };
}
