import type { EngineMethod, EngineParams, EngineResult } from "../protocol/engine";
import type { EmitEvent } from "../protocol/rpc";

/** What a request brings along: stop when `signal` aborts, report through `emit`. */
export interface RequestContext {
  signal: AbortSignal;
  emit: EmitEvent;
}

/** Requests about the process itself; handlers.ts answers them. */
export type ProcessMethod = "initialize" | "engine/onDisconnect";

/** Requests that the engine's functions answer. */
export type ServiceMethod = Exclude<EngineMethod, ProcessMethod>;

/** One function per request: a forgotten one does not compile. liveServices.ts is the real one, tests script others. */
export type EngineServices = {
  [M in ServiceMethod]: (params: EngineParams<M>, context: RequestContext) => Promise<EngineResult<M>>;
};

/**
 * "job": works for long or uses all cores, so one at a time, in the order asked for. "inspection": answered at once,
 * also while a job runs. Missing rows do not compile either.
 */
export const workload: { [M in ServiceMethod]: "job" | "inspection" } = {
  "runtime/probe": "inspection",
  "checkpoint/inspect": "inspection",
  "checkpoint/tensors": "inspection",
  "checkpoint/tensorStatistics": "inspection",
  "recipe/preflight": "job",
  "run/start": "job",
  "run/resume": "job",
  "comparison/preflight": "job",
  "comparison/start": "job",
  "comparison/resume": "job",
  "trace/import": "job",
  "run/list": "inspection",
  "run/read": "inspection",
  "panel/routing": "inspection",
  "panel/divergence": "inspection",
  "panel/similarity": "inspection",
  "panel/calibration": "inspection",
  "panel/tradeOff": "inspection",
};
