import { RerouteError } from "../../../protocol/errors";
import type { QueueStatus } from "../../../protocol/workers";
import type { Numerics } from "../../execution/numerics";
import type { DoctorCheck } from "../machine/doctor";
import { within } from "./bullCarrier";
import { notEligible, openClient, statusOf, workersThere, type Presence } from "./presence";
import type { QueueAddress } from "./queueAddress";

/** Releases of Redis before which a script could run code in the server (CVE-2025-49844), by their first two numbers. */
const repaired: Record<string, number> = { "6.2": 20, "7.2": 11, "7.4": 6, "8.0": 4, "8.2": 2 };

/**
 * Whether a queue can carry work, and which workers would get work of this machine's runs. Never throws: what goes wrong is a
 * check's result.
 */
export async function examineQueue(
  address: QueueAddress,
  own: Numerics,
): Promise<QueueStatus & { checks: DoctorCheck[] }> {
  const status = { queue: address.shown, numerics: own.hash.slice(0, 12), about: own.about };
  let trouble = "";
  const client = await openClient(address, (message) => (trouble = message));
  try {
    const info = fieldsOf(await within(10, client.info("server"), address.shown));
    const memory = fieldsOf(await client.info("memory"));
    const disk = fieldsOf(await client.info("persistence"));
    const there = await workersThere(client);
    const checks: DoctorCheck[] = [
      serverCheck(address, info),
      evictionCheck(memory["maxmemory_policy"]),
      persistenceCheck(disk["aof_enabled"]),
      { name: "Numerics", state: "ok", detail: `${own.hash.slice(0, 12)}, ${own.about}` },
      ...workerChecks(there, own),
    ];
    return { ...status, checks, workers: there.map((worker) => statusOf(worker, own.hash)) };
  } catch (error) {
    const { message, code } = error as RerouteError;
    const detail = trouble === "" ? message : `${message}; ${trouble}`;
    const problem: DoctorCheck = { name: "Queue", state: "problem", detail, code: code ?? "queue/unavailable" };
    return { ...status, checks: [problem], workers: [] };
  } finally {
    client.disconnect();
  }
}

export function serverCheck(
  { shown }: Pick<QueueAddress, "shown">,
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

export function workerChecks(workers: readonly Presence[], own: Pick<Numerics, "hash">): DoctorCheck[] {
  if (workers.length === 0)
    return [{ name: "Workers", state: "warning", detail: "none; start some with reroute worker" }];
  return workers.map((worker) => {
    const { name, about, tile, tiles, tokensPerSecond } = worker;
    const rate = tokensPerSecond === null ? "" : `, ${Math.round(tokensPerSecond)} tokens/s`;
    const doing = `${tile === null ? "waits" : `works on ${tile.pass}`}, ${tiles} tiles done${rate}`;
    const reason = notEligible(worker, own.hash);
    return reason === null
      ? { name: "Worker", state: "ok", detail: `${name}: ${doing}; ${about}` }
      : { name: "Worker", state: "warning", detail: `${name} is not eligible for runs of this machine: ${reason}` };
  });
}

/** "name:value" lines of the server's answer. */
function fieldsOf(text: string): Record<string, string> {
  const pairs = text.split(/\r?\n/).map((line) => /^(\w+):(.*)$/.exec(line));
  return Object.fromEntries(pairs.flatMap((pair) => (pair === null ? [] : [[pair[1]!, pair[2]!]])));
}
