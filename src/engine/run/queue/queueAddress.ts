import { RerouteError } from "../../../protocol/errors";

/** Where the queue is, as ioredis takes it. */
export interface QueueAddress {
  /** For people: without the password. */
  shown: string;
  /** On this machine, or a tunnel that ends here: who writes to it may read this machine's files anyway. */
  isLocal: boolean;
  connection: {
    host: string;
    port: number;
    db: number;
    username?: string;
    password?: string;
    tls?: Record<string, never>;
    /** BullMQ waits for a connection as long as it takes. */
    maxRetriesPerRequest: null;
  };
}

const loopback = new Set(["localhost", "127.0.0.1", "::1"]);

/**
 * A queue's URL. Redis speaks in the clear, passwords included: only this machine is spoken to that way, unless it is forced.
 * @throws RerouteError arguments/invalid, queue/insecure
 */
export function queueAddress(text: string, isInsecureAllowed: boolean): QueueAddress {
  const shown = withoutPassword(text);
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "redis:" && url.protocol !== "rediss:") || url.hostname === "") {
    throw new RerouteError(
      "arguments/invalid",
      `The queue is ${shown}, expected redis://host:port or rediss://user@host:port of a Redis or Valkey server`,
    );
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const isEncrypted = url.protocol === "rediss:";
  if (!isEncrypted && !loopback.has(host) && !isInsecureAllowed) {
    throw new RerouteError(
      "queue/insecure",
      `The queue ${shown} would be spoken to over the network without encryption; use rediss://, a tunnel to this machine, or --insecure-queue where the network is yours alone`,
    );
  }
  return {
    shown,
    isLocal: loopback.has(host),
    connection: {
      host,
      port: url.port === "" ? 6379 : Number(url.port),
      db: Number(url.pathname.slice(1)) || 0,
      ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
      ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
      ...(isEncrypted ? { tls: {} } : {}),
      maxRetriesPerRequest: null,
    },
  };
}

/** A URL with its password hidden, whatever it looks like. */
export function withoutPassword(text: string): string {
  return text.replace(/^([a-z+]+:\/\/[^:@/]*):.*@/i, "$1:***@");
}
