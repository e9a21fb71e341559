import type { DoctorCheck } from "../machine/doctor";
import type { NoteKind, Notes } from "./notes";
import type { RedisAddress } from "./queueAddress";

/** Keys of the notes of a kind, and of the set of their names. */
const keys: Record<NoteKind, { prefix: string; names: string }> = {
  worker: { prefix: "reroute:worker:", names: "reroute:workers" },
  run: { prefix: "reroute:runs:", names: "reroute:runs" },
};

/** Notes in keys of Redis or Valkey that expire. */
export async function redisNotes({ connection, shown }: RedisAddress, trouble: (error: Error) => void): Promise<Notes> {
  const { Redis } = await import("./clients");
  const client = new Redis(connection);
  client.on("error", trouble);
  return {
    put: async (kind, name, text, seconds) => {
      const { prefix, names } = keys[kind];
      await client.set(prefix + name, text, "EX", seconds);
      await client.sadd(names, name);
    },
    drop: async (kind, name) => {
      await client.del(keys[kind].prefix + name);
      await client.srem(keys[kind].names, name);
    },
    all: async (kind) => {
      const { prefix, names } = keys[kind];
      const known = (await client.smembers(names)).sort();
      if (known.length === 0) return [];
      const values = await client.mget(...known.map((name) => prefix + name));
      const gone = known.filter((_, i) => values[i] === null);
      if (gone.length > 0) await client.srem(names, ...gone);
      return values.filter((value) => value !== null && value !== undefined);
    },
    checks: async () => {
      const info = async (section: string) => fieldsOf(await client.info(section));
      return [
        serverCheck({ shown }, await info("server")),
        evictionCheck((await info("memory"))["maxmemory_policy"]),
        persistenceCheck((await info("persistence"))["aof_enabled"]),
      ];
    },
    close: () => client.disconnect(),
  };
}

/** Releases of Redis before which a script could run code in the server (CVE-2025-49844), by their first two numbers. */
const repaired: Record<string, number> = { "6.2": 20, "7.2": 11, "7.4": 6, "8.0": 4, "8.2": 2 };

export function serverCheck(
  { shown }: Pick<RedisAddress, "shown">,
  info: Readonly<Record<string, string>>,
): DoctorCheck {
  const valkey = info["valkey_version"];
  const version = valkey ?? info["redis_version"] ?? "?";
  const [major = 0, minor = 0, patch = 0] = version.split(".").map(Number);
  const name = `${valkey === undefined ? "Redis" : "Valkey"} ${version} at ${shown}`;
  if (valkey === undefined && (major < 6 || (major === 6 && minor < 2)))
    return { name: "Queue", state: "problem", detail: `${name}: 6.2 or later is needed`, code: "queue/unavailable" };
  const least = valkey === undefined ? repaired[`${major}.${minor}`] : undefined;
  const isOld = valkey === undefined && major < 9 && (least === undefined ? major < 8 : patch < least);
  return isOld
    ? {
        name: "Queue",
        state: "warning",
        detail: `${name}: releases before 7.2.11, 7.4.6, 8.0.4 and 8.2.2 have a flaw through which scripts run code (CVE-2025-49844), unless your distribution has repaired it`,
      }
    : { name: "Queue", state: "ok", detail: name };
}

export function evictionCheck(policy: string | undefined): DoctorCheck {
  return policy === "noeviction"
    ? { name: "Eviction", state: "ok", detail: "none" }
    : {
        name: "Eviction",
        state: "warning",
        detail: `the policy is ${policy ?? "unknown"}: a full server would drop jobs, which are then done again; set maxmemory-policy noeviction`,
      };
}

function persistenceCheck(aof: string | undefined): DoctorCheck {
  const detail = "off: a restarted server has forgotten its jobs, which are then added again; nothing is lost";
  return { name: "Persistence", state: "ok", detail: aof === "1" ? "append-only file" : detail };
}

/** "name:value" lines of the server's answer. */
function fieldsOf(text: string): Record<string, string> {
  const pairs = text.split(/\r?\n/).map((line) => /^(\w+):(.*)$/.exec(line));
  return Object.fromEntries(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1]!, pair[2]!]])));
}
