import { RerouteError } from "../../../protocol/errors";
import type { QueueStatus } from "../../../protocol/workers";
import type { Numerics } from "../../execution/numerics";
import type { DoctorCheck } from "../machine/doctor";
import { within } from "./bullCarrier";
import { openNotes } from "./openNotes";
import { notEligible, statusOf, workersThere, type Presence } from "./presence";
import type { QueueAddress } from "./queueAddress";

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
  const notes = await openNotes(address, (message) => (trouble = message));
  try {
    const ofServer = await within(10, notes.checks(), address.shown);
    const there = await workersThere(notes);
    const checks: DoctorCheck[] = [
      ...ofServer,
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
    notes.close();
  }
}

export function workerChecks(workers: readonly Presence[], own: Pick<Numerics, "hash">): DoctorCheck[] {
  if (workers.length === 0)
    return [{ name: "Workers", state: "warning", detail: "none; start some with reroute worker" }];
  return workers.map((worker) => {
    const { name, about, tile, tiles, tokensPerSecond, layers } = worker;
    const rate = tokensPerSecond === null ? "" : `, ${Math.round(tokensPerSecond)} tokens/s`;
    const kept = layers === undefined ? "" : `, keeps to layers ${layers}`;
    const doing = `${tile === null ? "waits" : `works on ${tile.pass}`}, ${tiles} tiles done${rate}${kept}`;
    const reason = notEligible(worker, own.hash);
    return reason === null
      ? { name: "Worker", state: "ok", detail: `${name}: ${doing}; ${about}` }
      : { name: "Worker", state: "warning", detail: `${name} is not eligible for runs of this machine: ${reason}` };
  });
}
