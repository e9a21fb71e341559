import {
  protocolVersion,
  workload,
  type EngineMethod,
  type EngineParams,
  type EngineResult,
  type ServiceMethod,
} from "../protocol/engine";
import { RerouteError } from "../protocol/errors";
import { JobQueue } from "./jobQueue";
import type { EngineRpc } from "./rpc";
import type { EngineServices, RequestContext } from "./services";

/** What the process does once its host is gone; the host may change it at any time. */
export interface DisconnectPolicy {
  behaviour: "exit" | "finish-runs";
}

/**
 * Connects every request to the engine's functions: the handshake first, then jobs one at a time and inspections at
 * once. Returns the queue, so that the process knows whether work is left.
 */
export function connectHandlers(
  rpc: EngineRpc,
  services: EngineServices,
  version: string,
  policy: DisconnectPolicy,
): JobQueue {
  const jobs = new JobQueue();
  let greeted = false;

  rpc.answer("initialize", async (hello) => {
    if (hello.protocolVersion !== protocolVersion) {
      throw new RerouteError(
        "engine/version",
        `The engine ${version} speaks protocol version ${protocolVersion}, the host ${hello.host} speaks ${hello.protocolVersion}; ` +
          "reload the window, and reinstall the extension if that does not help",
      );
    }
    greeted = true;
    return { protocolVersion, version, node: process.version, pid: process.pid };
  });

  rpc.answer("engine/onDisconnect", async ({ behaviour }) => {
    policy.behaviour = behaviour;
    return null;
  });

  for (const method of Object.keys(workload) as ServiceMethod[]) {
    rpc.answer(method, async (params, context) => {
      if (!greeted) {
        throw new RerouteError(
          "engine/version",
          `The engine got "${method}" before the "initialize" that must come first`,
        );
      }
      const call = () => serve(services, method, params, context);
      return workload[method] === "job" ? jobs.add(call, context.signal) : call();
    });
  }
  return jobs;
}

/** Ties one method's parameters to its function; the table's keys are the methods, so the types agree row by row. */
function serve<M extends ServiceMethod>(
  services: EngineServices,
  method: M,
  params: EngineParams<EngineMethod>,
  context: RequestContext,
): Promise<EngineResult<M>> {
  return services[method](params as EngineParams<M>, context);
}
