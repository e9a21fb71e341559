import { RerouteError } from "../../../protocol/errors";

/** Where the queue is. */
export type QueueAddress = RedisAddress | PostgresAddress;

interface Shown {
  /** For people: without the password. */
  shown: string;
  /** On this machine, or a tunnel that ends here: who writes to it may read this machine's files anyway. */
  isLocal: boolean;
}

export interface RedisAddress extends Shown {
  kind: "redis";
  /** As ioredis takes it. */
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

export interface PostgresAddress extends Shown {
  kind: "postgres";
  /** As pg and BullMQ take it. */
  connection: {
    host: string;
    port: number;
    user?: string;
    password?: string;
    database?: string;
    /** Encrypted, the server's certificate and name checked. */
    ssl: boolean;
    schema: string;
    /** Makes the tables where they are missing; without it BullMQ asks for them without end. */
    migrate: true;
    max: 1;
    connectionTimeoutMillis: number;
  };
}

/** Everything of Reroute's is in this schema of the database. */
export const postgresSchema = "reroute";

const loopback = new Set(["localhost", "127.0.0.1", "::1"]);
const expected =
  "redis://host:port or rediss://user@host:port of a Redis or Valkey server, or postgres://user@host:port/database?sslmode=verify-full";

/**
 * A queue's URL. Redis, and PostgreSQL unless it is told to, speak in the clear: only this machine is spoken to that way, unless
 * it is forced.
 * @throws RerouteError arguments/invalid, queue/insecure
 */
export function queueAddress(text: string, isInsecureAllowed: boolean): QueueAddress {
  const shown = withoutPassword(text);
  const url = URL.canParse(text) ? new URL(text) : null;
  const host = url?.hostname.replace(/^\[(.*)\]$/, "$1") ?? "";
  const isPostgres = url !== null && /^postgres(ql)?:$/.test(url.protocol);
  if (url === null || host === "" || !(isPostgres || /^rediss?:$/.test(url.protocol)))
    throw new RerouteError("arguments/invalid", `The queue is ${shown}, expected ${expected}`);
  const isEncrypted = isPostgres ? isVerified(url, shown) : url.protocol === "rediss:";
  const isLocal = loopback.has(host);
  if (!isEncrypted && !isLocal && !isInsecureAllowed) {
    const how = isPostgres ? "?sslmode=verify-full" : "rediss://";
    throw new RerouteError(
      "queue/insecure",
      `The queue ${shown} would be spoken to over the network without encryption; use ${how}, a tunnel to this machine, or --insecure-queue where the network is yours alone`,
    );
  }
  const place = url.pathname.slice(1);
  const password = url.password === "" ? {} : { password: decodeURIComponent(url.password) };
  const user = decodeURIComponent(url.username);
  if (isPostgres) {
    const database = place === "" ? {} : { database: decodeURIComponent(place) };
    const server = { host, port: url.port === "" ? 5432 : Number(url.port), ...password, ...database };
    const named = user === "" ? {} : { user };
    const how = { ssl: isEncrypted, schema: postgresSchema, migrate: true, max: 1 } as const;
    return {
      kind: "postgres",
      shown,
      isLocal,
      connection: { ...server, ...named, ...how, connectionTimeoutMillis: 15_000 },
    };
  }
  return {
    ...{ kind: "redis", shown, isLocal },
    connection: {
      ...{ host, port: url.port === "" ? 6379 : Number(url.port), db: Number(place) || 0 },
      ...(user === "" ? {} : { username: user }),
      ...password,
      ...(isEncrypted ? { tls: {} } : {}),
      maxRetriesPerRequest: null,
    },
  };
}

/** Whether the server proves who it is. The modes in between encrypt for whoever answers. @throws RerouteError arguments/invalid */
function isVerified({ searchParams }: URL, shown: string): boolean {
  for (const [name, value] of searchParams)
    if (name !== "sslmode" || !["disable", "verify-full"].includes(value))
      throw new RerouteError(
        "arguments/invalid",
        `The queue ${shown} says ${name}=${value}; only sslmode=verify-full and sslmode=disable are understood behind "?"`,
      );
  return searchParams.get("sslmode") === "verify-full";
}

/** A URL with its password hidden, whatever it looks like. */
export function withoutPassword(text: string): string {
  return text.replace(/^([a-z+]+:\/\/[^:@/]*):.*@/i, "$1:***@");
}
